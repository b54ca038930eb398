import type { Digest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import { ANONYMOUS, type Identity, type Right } from '../oci/identity.ts'
import type { Place } from '../oci/place.ts'
import type { Reference } from '../oci/reference.ts'
import type { Peer } from './peer.ts'

/** The parts of a request that say who sends it. */
export interface Credentials {
  /** The header field `Authorization`, unchecked. */
  readonly authorization: string | undefined
  /** The other side of the connection, whose certificate is trusted if it has one. */
  readonly peer: Peer
}

/** One request, described for the decision about access. */
export interface AccessRequest {
  readonly place: Place
  readonly right: Right
  /** The tag or digest that the request names; `undefined` for one about the whole repository. */
  readonly reference: Reference | undefined
  readonly identity: Identity
  /** Address of the client; `undefined` for a client on a unix socket. */
  readonly client: string | undefined
}

/** Who sends a request, and what that sender may do. Every request for content must pass. */
export interface Access {
  /**
   * The sender of a request; the anonymous one if it brings no credentials. Throws an `OciError`
   * UNAUTHORIZED, or rejects with it, if the credentials are wrong. Returns a promise only if it has to wait,
   * so that the common case costs no turn of the event loop.
   */
  identify(credentials: Credentials): Identity | Promise<Identity>

  /**
   * Throws an `OciError`, or rejects with it, if the request is not allowed: DENIED, or UNAUTHORIZED if
   * credentials may help. Returns `undefined` if the answer is known at once.
   */
  authorize(request: AccessRequest): Promise<void> | undefined

  /**
   * Throws DENIED if content with this digest, to which a tag led, is denied by its digest. The request
   * itself is allowed already.
   */
  authorizeDigest(request: Omit<AccessRequest, 'reference'>, digest: Digest): void

  /** The row that decides this request, as `explain` and the audit log name it. */
  rowFor(request: Omit<AccessRequest, 'client'>): string

  /** True if `GET /v2/` is answered without asking this sender to log in. */
  mayEnter(identity: Identity): boolean

  /** True if the identity has the right at this place, whatever the tag: for listings and for mounts. */
  may(identity: Identity, place: Place, right: Right): boolean
}

/** Allows every client to pull from every place, and nothing else. */
export const OPEN_ACCESS: Access = {
  identify: () => ANONYMOUS,
  authorize: ({ right }) => {
    if (right !== 'pull') throw denied(ANONYMOUS, right)
    return undefined
  },
  authorizeDigest: () => undefined,
  rowFor: () => 'default',
  mayEnter: () => true,
  may: (_identity, _place, right) => right === 'pull',
}

/** The refusal of a right. Its message names the right that is missing. */
function denied({ name }: Identity, right: Right): OciError {
  return new OciError('DENIED', `${name} may not ${right} here`)
}
