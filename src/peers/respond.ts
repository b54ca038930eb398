import { memoryContent } from '../content/memory-content.ts'
import type { Mirror } from '../mirror/mirror.ts'
import { type Directory, type Source, sourceAt } from '../mirror/sources.ts'
import type { Digest } from '../oci/digest.ts'
import type { Place } from '../oci/place.ts'
import type { Registry } from '../upstream/registry.ts'
import { type Answered, plainly, refusal } from './answered.ts'
import type { Following } from './following.ts'
import { contentKeyOf, type OwnedTags } from './owned-tags.ts'
import type { PeerQuestion, ToldChange } from './protocol.ts'

export interface RespondingParts {
  readonly mirror: Mirror
  /** False for a name that is hosted here: no registry is asked for it, and nothing of it is given away. */
  readonly isMirrored: (place: Place) => Promise<boolean>
  /** Registries as they are, without other replicas in front of them. */
  readonly directory: () => Directory
  readonly following: Following
  readonly tags: OwnedTags
  readonly version: string
  readonly store: string | undefined
  readonly isLeaving: () => boolean
  readonly changed: (changes: readonly ToldChange[]) => void
}

type PlacedQuestion = Exclude<PeerQuestion, { readonly kind: 'hello' | 'changed' }>

type AboutContent = Extract<
  PeerQuestion,
  { readonly kind: 'blob' | 'blob-head' | 'manifest' | 'manifest-head' }
>

/** Answers questions of other replicas from the mirror. Asks registries itself, and no other replica. */
export class Responding {
  readonly #parts: RespondingParts

  constructor(parts: RespondingParts) {
    this.#parts = parts
  }

  /** Throws what the mirror throws. */
  async respond(question: PeerQuestion, trail: readonly string[]): Promise<Answered> {
    if (question.kind === 'hello') return this.#hello()
    if (question.kind !== 'changed') return await this.#placed(question, trail)
    this.#parts.changed(question.changes)
    return plainly({ kind: 'noted' })
  }

  /** The asking replica may have other claims: its configuration may be older than ours. */
  async #placed(question: PlacedQuestion, trail: readonly string[]): Promise<Answered> {
    if (!(await this.#parts.isMirrored(question))) return refusal('busy')
    switch (question.kind) {
      case 'progress':
        return await this.#progress(question)
      case 'tag':
        return await this.#tag(question, trail)
      case 'blob':
      case 'blob-head':
      case 'manifest':
      case 'manifest-head':
        return await this.#content(question, trail)
    }
  }

  #hello(): Answered {
    const { version, store, isLeaving } = this.#parts
    return plainly({
      kind: 'hello',
      version,
      isDraining: isLeaving(),
      ...(store === undefined ? {} : { store }),
    })
  }

  async #progress(question: Extract<PeerQuestion, { readonly kind: 'progress' }>): Promise<Answered> {
    const { mirror } = this.#parts
    const { namespace, digest, untilStored } = question
    if (untilStored) {
      const isKept = await mirror.isKept(this.#source(question, []), digest)
      return plainly({ kind: 'progress', state: isKept ? 'stored' : 'unknown', readableBytes: 0 })
    }
    const readable = mirror.peerView.readableBytes(namespace, digest)
    // A stored blob can be read whole. Its size does not matter to the one who asks.
    return plainly(
      readable === undefined
        ? { kind: 'progress', state: 'unknown', readableBytes: Number.MAX_SAFE_INTEGER }
        : { kind: 'progress', state: 'running', readableBytes: Math.max(0, readable) },
    )
  }

  async #tag(
    question: Extract<PeerQuestion, { readonly kind: 'tag' }>,
    trail: readonly string[],
  ): Promise<Answered> {
    const { tags, isLeaving } = this.#parts
    if (isLeaving()) return refusal('draining')
    const { registry } = this.#source(question, trail)
    if (!(await isAskedAlike(registry, question))) return refusal('busy')
    const head = await tags.head(registry, question, question, trail)
    if (head === undefined) return plainly({ kind: 'absent' })
    return plainly({ kind: 'head', ...known(head), ageMs: head.ageMs })
  }

  async #content(question: AboutContent, trail: readonly string[]): Promise<Answered> {
    const { following, isLeaving, mirror } = this.#parts
    const { namespace, digest } = question
    const isFilling = mirror.peerView.isFilling(namespace, digest)
    if (following.has(contentKeyOf(namespace, digest))) return refusal('following')
    if (isLeaving() && !isFilling) return refusal('draining')
    const source = this.#source(question, trail)
    if (!(await isAskedAlike(source.registry, question))) return refusal('busy')
    switch (question.kind) {
      case 'blob-head': {
        const { sizeBytes } = await mirror.headBlob(source, digest)
        return plainly({ kind: 'head', ...known({ digest, sizeBytes }), ageMs: 0 })
      }
      case 'manifest-head': {
        const head = await mirror.headManifest(source, { kind: 'digest', digest })
        const { mediaType, sizeBytes } = head
        return plainly({ kind: 'head', ...known({ digest, mediaType, sizeBytes }), ageMs: 0 })
      }
      case 'manifest':
        return await this.#manifest(source, question)
      case 'blob':
        return await this.#blob(source, question)
    }
  }

  async #manifest(source: Source, { digest }: AboutContent): Promise<Answered> {
    const { peerView } = this.#parts.mirror
    const manifest = await peerView.manifest(source, digest)
    if (manifest === undefined) return plainly({ kind: 'absent' })
    const { mediaType, bytes } = manifest
    const isStored = peerView.isStored(digest)
    const answer = { kind: 'content', from: 0, sizeBytes: bytes.byteLength, mediaType, isStored } as const
    return { answer, content: memoryContent(manifest) }
  }

  async #blob(
    source: Source,
    { digest, from, isLinked }: Extract<PeerQuestion, { readonly kind: 'blob' }>,
  ): Promise<Answered> {
    const { peerView } = this.#parts.mirror
    if (isLinked) peerView.link(source, digest)
    const served = await peerView.blob(source, digest)
    if (served === undefined) return refusal('busy')
    const { content, outcome } = served
    const { sizeBytes } = content
    if (from > (sizeBytes ?? Infinity)) {
      await content[Symbol.asyncDispose]()
      return refusal('invalid')
    }
    const answer = { kind: 'content', from, isStored: outcome === 'hit', ...known({ sizeBytes }) } as const
    return { answer, content }
  }

  #source(
    {
      namespace,
      repository,
      client,
    }: Pick<Source, 'namespace' | 'repository'> & { readonly client?: string | undefined },
    trail: readonly string[],
  ): Source {
    const source = sourceAt(this.#parts.directory(), { namespace, repository })
    const registry = source.registry.onBehalfOf({ trail, client })
    return { ...source, registry, trail }
  }
}

/** False if the answer would be about another registry, or to another user. */
async function isAskedAlike(registry: Registry, question: PlacedQuestion): Promise<boolean> {
  const identity = await registry.identify()
  return identity !== undefined && identity.text === question.registry
}

interface HeadFields {
  readonly digest?: Digest | undefined
  readonly mediaType?: string | undefined
  readonly sizeBytes?: number | undefined
}

/** Longer ones are no type of a manifest, and other replicas would not read the answer. */
const MEDIA_TYPE_LENGTH_MAX = 255

/** The fields that have a value. */
function known({ digest, mediaType, sizeBytes }: HeadFields): {
  readonly digest?: Digest
  readonly mediaType?: string
  readonly sizeBytes?: number
} {
  return {
    ...(digest === undefined ? {} : { digest }),
    ...(mediaType === undefined || mediaType.length > MEDIA_TYPE_LENGTH_MAX ? {} : { mediaType }),
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
  }
}
