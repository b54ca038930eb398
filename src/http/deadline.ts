import { UpstreamError } from '../oci/error.ts'
import type { HttpExchange } from './exchange.ts'
import { discard, type Reply } from './reply.ts'
import { isPush } from './route.ts'

/**
 * Waits for a reply until the deadline, or until the client leaves. A reply that comes later is disposed
 * of.
 */
export async function beforeDeadline(
  reply: Promise<Reply>,
  { left, route }: Pick<HttpExchange, 'left' | 'route'>,
  firstHeaderMs: number,
): Promise<Reply> {
  const { promise: over, reject } = Promise.withResolvers<never>()
  const late = (): void => reject(new UpstreamError('timeout', 'the upstream did not answer in time'))
  const leave = (): void => reject(left.reason as Error)
  // A client that sends gets its answer when it has sent everything, however long that takes.
  const isSending = route !== undefined && isPush(route)
  const timer = isSending ? undefined : setTimeout(late, firstHeaderMs)
  left.addEventListener('abort', leave, { once: true })
  let isTaken = false
  try {
    const ready = await Promise.race([reply, over])
    isTaken = true
    return ready
  } finally {
    clearTimeout(timer)
    left.removeEventListener('abort', leave)
    if (!isTaken) void reply.then(discard, () => undefined)
  }
}
