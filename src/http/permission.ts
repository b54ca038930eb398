import type { Access, AccessRequest } from '../access/access.ts'
import { discard, type Reply } from './reply.ts'

/** Lets content that a tag led to pass, unless it is denied by its digest. */
export function permittedDigest(access: Access, asking: AccessRequest, reply: Reply): Reply {
  if (reply.digest === undefined || asking.reference?.kind !== 'tag') return reply
  try {
    access.authorizeDigest(asking, reply.digest)
    return reply
  } catch (error) {
    void discard(reply)
    throw error
  }
}
