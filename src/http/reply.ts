import type { Repeatable } from '../content/epoch.ts'
import type { ByteRange, Content, Outcome } from '../oci/content.ts'
import type { Digest } from '../oci/digest.ts'
import type { Place } from '../oci/place.ts'
import type { NamedRoute } from './route.ts'

/** The response of a handler; `send.ts` writes it to the socket. */
export interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  /** The same header fields as a flat list of names and values, where a reply is sent again and again. */
  readonly fields?: readonly string[]
  readonly body: Body
  readonly outcome: Outcome | undefined
  /** Digest of the content that the reply is about. */
  readonly digest?: Digest
  /** Set only if the same reply may be given again without asking. */
  readonly repeatable?: Repeatable | undefined
  /** Only if the same reply was noted as a recent pull a moment ago. */
  readonly isNoted?: true
}

/**
 * `bytes` are in memory and sent in one piece. A `text` is the same, with one character (latin1) for each
 * byte; Node joins it to the header. A `content` is streamed, and the sender disposes of it. `none` sends no
 * bytes, whatever length the headers state (HEAD, 304).
 */
export type Body =
  | { readonly kind: 'none' }
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'content'; readonly content: SentContent; readonly range: ByteRange }

/** The part of a {@link Content} that sending needs. */
export type SentContent = Pick<Content, 'read' | 'file'> & AsyncDisposable

export function jsonReply(
  status: number,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): Reply {
  const bytes = Buffer.from(text)
  return {
    status,
    headers: { 'Content-Type': 'application/json', 'Content-Length': String(bytes.byteLength), ...headers },
    body: { kind: 'bytes', bytes },
    outcome: undefined,
  }
}

/** The `Cache-Status` of an outcome (RFC 9211), and a warning for a stale answer. */
export function outcomeHeaders(outcome: Outcome): Readonly<Record<string, string>> {
  return OUTCOME_HEADERS[outcome]
}

const OUTCOME_HEADERS = {
  hit: { 'Cache-Status': 'entrepot; hit' },
  miss: { 'Cache-Status': 'entrepot; fwd=miss' },
  joined: { 'Cache-Status': 'entrepot; fwd=miss; collapsed' },
  revalidated: { 'Cache-Status': 'entrepot; fwd=stale; detail=revalidated' },
  stale: {
    'Cache-Status': 'entrepot; fwd=stale; detail=not-confirmed',
    Warning: '299 entrepot "stale: the upstream has not confirmed this"',
  },
  bypass: { 'Cache-Status': 'entrepot; fwd=bypass' },
} as const satisfies Record<Outcome, Readonly<Record<string, string>>>

/** Header field of every answer of the registry API. */
export const API_VERSION = { 'Docker-Distribution-API-Version': 'registry/2.0' } as const

/**
 * Header fields of every answer about a repository. If the client named the namespace by `ns`, they confirm
 * it.
 */
export function namedHeaders(route: NamedRoute, { namespace }: Place): Readonly<Record<string, string>> {
  return route.name.ns.length === 0 ? API_VERSION : { ...API_VERSION, 'OCI-Namespace': namespace }
}

/** The reply with further header fields; its own win. */
export function withHeaders(reply: Reply, headers: Readonly<Record<string, string>>): Reply {
  return { ...reply, headers: { ...headers, ...reply.headers } }
}

/** Gives up a reply that is not sent. Never rejects: the client has another answer already. */
export async function discard({ body }: Reply): Promise<void> {
  try {
    if (body.kind === 'content') await body.content[Symbol.asyncDispose]()
  } catch {
    // The client has been answered already.
  }
}
