import type { SentContent } from '../http/reply.ts'
import type { PeerAnswer } from './protocol.ts'

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
