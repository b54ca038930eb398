import { retryAfterText } from '../../oci/error.ts'
import { jsonReply, type Reply } from '../reply.ts'

/** Readiness depends on the store and on draining, never on upstreams. */
export interface Readiness {
  isDraining(): boolean
  /** True while the mirror still serves, but is about to drain. */
  isLeaving?(): boolean
  /** Rejects with the reason if the store can be neither read nor written. */
  probeStore(): Promise<void>
}

/** `GET /v2/`: touches neither an upstream nor the store. */
export function answerBase(): Reply {
  return jsonReply(200, '{}')
}

/** `GET /` and `GET /livez`: succeed while the process runs. */
export function answerLive(): Reply {
  return jsonReply(200, '{"status":"ok"}')
}

/**
 * `GET /readyz`: not ready while draining. If the store cannot be written, pulls still pass through, so the
 * answer is "ready" with a note.
 */
export async function answerReady(readiness: Readiness): Promise<Reply> {
  if (readiness.isDraining() || readiness.isLeaving?.() === true)
    return jsonReply(503, '{"status":"draining"}', { 'Retry-After': retryAfterText() })
  try {
    await readiness.probeStore()
    return jsonReply(200, '{"status":"ok"}')
  } catch {
    return jsonReply(200, '{"status":"degraded","store":"cannot be written: pulls pass through uncached"}')
  }
}
