import { isIP } from 'node:net'
import * as z from 'zod'
import { type Digest, parseDigest } from '../oci/digest.ts'
import { parseRepositoryName, parseTag, type RepositoryName, type Tag } from '../oci/name.ts'
import { type Namespace, parseConfiguredNamespace } from '../oci/namespace.ts'

/** Field of an answer with everything that it says, apart from the bytes of content. */
export const ANSWER_FIELD = 'entrepot-answer'

const PREFIX = '/peer/'
const OFFSET_DIGITS_MAX = 15

/** A question of one replica to another. */
export type PeerQuestion =
  | { readonly kind: 'hello' }
  | (QuestionPlace & {
      readonly kind: 'blob'
      readonly digest: Digest
      /** Offset of the first byte that is wanted. */
      readonly from: number
      /** True if the asking replica knows that the repository may see the digest. */
      readonly isLinked: boolean
    })
  | (QuestionPlace & { readonly kind: 'blob-head' | 'manifest' | 'manifest-head'; readonly digest: Digest })
  | (QuestionPlace & { readonly kind: 'tag'; readonly tag: Tag; readonly isFresh: boolean })
  /** How far the download of a blob is; with `untilStored` the answer comes when it has ended. */
  | (QuestionPlace & { readonly kind: 'progress'; readonly digest: Digest; readonly untilStored: boolean })
  /** Something has changed here, so that other replicas may remember what is no longer true. */
  | { readonly kind: 'changed'; readonly changes: readonly ToldChange[] }

interface QuestionPlace {
  readonly namespace: Namespace
  readonly repository: RepositoryName
  /** Address of the client that wants it, for the limits per client. */
  readonly client?: string | undefined
  /** What the asking replica takes the registry for; see `Registry.identify`. */
  readonly registry?: string | undefined
}

/** A change that replicas tell each other: of a tag of a repository, or of content. */
export interface ToldChange {
  readonly namespace: Namespace
  readonly repository: RepositoryName
  readonly tag?: Tag | undefined
  readonly digest?: Digest | undefined
}

/** The request target of a question. All of it is signed. */
export function targetOf(question: PeerQuestion): string {
  const { kind, ...rest } = question
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(rest))
    if (value !== undefined)
      query.set(name, typeof value === 'object' ? JSON.stringify(value) : String(value))
  const text = query.toString()
  return text === '' ? `${PREFIX}${kind}` : `${PREFIX}${kind}?${text}`
}

/** Reads a request target; `undefined` if it is no question. */
export function parseQuestion(target: string): PeerQuestion | undefined {
  const [path = '', text = ''] = target.split('?', 2)
  const kind = path.startsWith(PREFIX) ? path.slice(PREFIX.length) : ''
  const query = new URLSearchParams(text)
  if (kind === 'hello') return { kind }
  if (kind === 'changed') return parseChanged(query.get('changes') ?? '')
  const namespace = parseConfiguredNamespace(query.get('namespace') ?? '')
  const repository = parseRepositoryName(query.get('repository') ?? '')
  if (namespace === undefined || repository === undefined) return undefined
  const [client, registry] = [query.get('client') ?? '', query.get('registry')]
  const place = {
    namespace,
    repository,
    ...(isIP(client) === 0 ? {} : { client }),
    ...(registry === null ? {} : { registry }),
  }
  return parsePlaced(kind, place, query)
}

function parsePlaced(kind: string, place: QuestionPlace, query: URLSearchParams): PeerQuestion | undefined {
  const is = (name: string): boolean => query.get(name) === 'true'
  if (kind === 'tag') {
    const tag = parseTag(query.get('tag') ?? '')
    return tag === undefined ? undefined : { kind, ...place, tag, isFresh: is('isFresh') }
  }
  const digest = parseDigest(query.get('digest') ?? '')
  if (digest === undefined) return undefined
  switch (kind) {
    case 'blob': {
      const from = query.get('from') ?? ''
      if (!/^[0-9]+$/.test(from) || from.length > OFFSET_DIGITS_MAX) return undefined
      return { kind, ...place, digest, from: Number(from), isLinked: is('isLinked') }
    }
    case 'progress':
      return { kind, ...place, digest, untilStored: is('untilStored') }
    case 'blob-head':
    case 'manifest':
    case 'manifest-head':
      return { kind, ...place, digest }
    default:
      return undefined
  }
}

/** Changes in one message: they travel in the request target, which is limited. */
export const CHANGES_MAX = 16

function parseChanged(text: string): PeerQuestion | undefined {
  const changes = parseJson(text)
  if (!Array.isArray(changes) || changes.length > CHANGES_MAX) return undefined
  const read = changes.map(changeOf)
  return read.every(change => change !== undefined) ? { kind: 'changed', changes: read } : undefined
}

function changeOf(value: unknown): ToldChange | undefined {
  const fields = (value ?? {}) as Readonly<Record<string, unknown>>
  const textOf = (name: string): string => (typeof fields[name] === 'string' ? fields[name] : '')
  const namespace = parseConfiguredNamespace(textOf('namespace'))
  const repository = parseRepositoryName(textOf('repository'))
  if (namespace === undefined || repository === undefined) return undefined
  return { namespace, repository, tag: parseTag(textOf('tag')), digest: parseDigest(textOf('digest')) }
}

const SIZE = z.int().min(0)
const DIGEST = z.string().transform((text, context) => {
  const digest = parseDigest(text)
  if (digest !== undefined) return digest
  context.addIssue('not a digest')
  return z.NEVER
})

const ANSWER = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('hello'),
    version: z.string().max(64),
    store: z.string().max(128).optional(),
    isDraining: z.boolean(),
  }),
  /** The bytes follow. `isStored` says that the answering replica has stored them. */
  z.object({
    kind: z.literal('content'),
    from: SIZE,
    sizeBytes: SIZE.optional(),
    mediaType: z.string().max(255).optional(),
    isStored: z.boolean(),
  }),
  z.object({
    kind: z.literal('head'),
    digest: DIGEST.optional(),
    mediaType: z.string().max(255).optional(),
    sizeBytes: SIZE.optional(),
    ageMs: z.number().min(0),
  }),
  z.object({
    kind: z.literal('progress'),
    /** `unknown`: no download of it runs, and it is not stored. */
    state: z.enum(['running', 'stored', 'unknown']),
    readableBytes: SIZE,
  }),
  z.object({ kind: z.literal('noted') }),
  /** The registry does not have it. */
  z.object({ kind: z.literal('absent') }),
  /** The replica does not do this now, and another one may. */
  z.object({
    kind: z.literal('refused'),
    why: z.enum(['draining', 'following', 'loop', 'invalid', 'busy']),
  }),
  /** The registry failed. */
  z.object({
    kind: z.literal('failed'),
    error: z.string().max(64),
    message: z.string().max(2000),
    retryAfterMs: z.number().min(0).optional(),
  }),
])

/** What a replica answers. */
export type PeerAnswer = z.infer<typeof ANSWER>

/** An answer as the text of a header field. */
export function answerText(answer: PeerAnswer): string {
  return Buffer.from(JSON.stringify(answer)).toString('base64url')
}

/** Reads the text of an answer; `undefined` if it is none of this version. */
export function parseAnswer(text: unknown): PeerAnswer | undefined {
  if (typeof text !== 'string') return undefined
  return ANSWER.safeParse(parseJson(Buffer.from(text, 'base64url').toString())).data
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
