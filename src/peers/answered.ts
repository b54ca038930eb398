import type { SentContent } from '../http/reply.ts'
import { OciError, UpstreamError } from '../oci/error.ts'
import type { PeerAnswer } from './protocol.ts'

const MESSAGE_MAX = 1000

/** An answer, and the content that it speaks of. */
export interface Answered {
  readonly answer: PeerAnswer
  readonly content?: SentContent
}

/** An answer without content. */
export function plainly(answer: PeerAnswer): Answered {
  return { answer }
}

/** A refusal, after which the asking replica tries elsewhere. */
export function refusal(why: Extract<PeerAnswer, { readonly kind: 'refused' }>['why']): Answered {
  return { answer: { kind: 'refused', why } }
}

/** The answer if the mirror threw this. */
export function failureAnswer(error: unknown): Answered {
  if (error instanceof OciError) {
    const { code } = error
    if (code === 'BLOB_UNKNOWN' || code === 'MANIFEST_UNKNOWN') return { answer: { kind: 'absent' } }
    return refusal(code === 'LOOP_DETECTED' ? 'loop' : 'busy')
  }
  if (!(error instanceof UpstreamError)) return refusal('busy')
  const { kind, message, retryAfterMs } = error
  const failure = { kind: 'failed', error: kind, message: message.slice(0, MESSAGE_MAX) } as const
  return { answer: retryAfterMs === undefined ? failure : { ...failure, retryAfterMs } }
}
