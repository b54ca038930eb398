import type { Answer, Answering, Asked, Head, Listing, ReferrersQuestion } from '../content/answering.ts'
import { Epoch } from '../content/epoch.ts'
import type {
  Hosting,
  IncomingBytes,
  IncomingManifest,
  MountRequest,
  PartOutcome,
  PublishedManifest,
  UploadPart,
  UploadState,
} from '../content/hosting.ts'
import { memoryContent } from '../content/memory-content.ts'
import { Proofs } from '../content/proofs.ts'
import { type StoredManifest, StoredManifests } from '../content/stored-manifests.ts'
import type { Clock } from '../lib/clock.ts'
import type { Events } from '../observe/events.ts'
import { algorithmOf, type Digest, type DigestAlgorithm, digestOf } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import { MANIFEST_SIZE_MAX, ManifestError } from '../oci/manifest.ts'
import { OCTET_STREAM } from '../oci/media-type.ts'
import type { Place } from '../oci/place.ts'
import { type PushedManifest, parsePushedManifest } from '../oci/pushed-manifest.ts'
import type { Reference } from '../oci/reference.ts'
import type { TagsPage, TagsPageRequest } from '../oci/tags-page.ts'
import { newUploadId, type UploadId } from '../oci/upload-id.ts'
import type { Store } from '../storage/store.ts'
import { type ActParties, underRules } from './acts.ts'
import { CollectionMarks } from './collection-marks.ts'
import { type Actor, Publishing } from './publishing.ts'
import { listReferrers } from './referrers.ts'
import { Shelf } from './shelf.ts'
import { storing } from './store-trouble.ts'
import { UploadBytes } from './upload-bytes.ts'
import { Uploads, type UploadsParts } from './uploads.ts'

export interface HostedParts {
  readonly store: Store
  readonly events: Events
  readonly clock: Clock
  readonly parties: ActParties
  /** Changes whenever answers may have changed. */
  readonly epoch?: Epoch
}

/**
 * Hosted repositories: what was pushed, and nothing else. Each method takes a repository that is hosted and
 * tells the story of one verb. An `OciError` is a refusal; anything else that is thrown is a fault of our
 * own. No registry is ever asked.
 */
export class Hosted implements Answering, Omit<Hosting, 'requireHosted'>, AsyncDisposable {
  readonly shelf: Shelf
  readonly publishing: Publishing
  readonly uploads: Uploads
  readonly marks: CollectionMarks
  readonly #parts: HostedParts
  readonly #manifests: StoredManifests
  readonly #proofs: Proofs

  constructor(parts: HostedParts) {
    const { store, events, clock, parties, epoch = new Epoch() } = parts
    this.#parts = parts
    this.shelf = new Shelf(store, events)
    this.marks = new CollectionMarks({ store, clock })
    this.publishing = new Publishing({
      store,
      marks: this.marks,
      shelf: this.shelf,
      clock,
      parties,
      unclaimed: error => events.storageFailed('claim', error),
      onChange: place => epoch.bump({ kind: 'place', place }),
    })
    this.uploads = new Uploads({ store, clock, events, receive: this.#receive })
    this.#manifests = new StoredManifests({ store, events })
    this.#proofs = new Proofs({ store, events, isEveryRead: false })
  }

  /** True if the repository has the manifest that a reference names. Says nothing about its bytes. */
  async has(place: Place, reference: Reference): Promise<boolean> {
    const digest =
      reference.kind === 'digest' ? reference.digest : (await this.shelf.tag(place, reference.tag))?.digest
    if (digest === undefined) return false
    return (await this.shelf.content({ kind: 'hosted-manifest', ...placeOf(place), digest })) !== undefined
  }

  async pullManifest(asked: Asked, reference: Reference): Promise<Answer> {
    const manifest = await this.#requireManifest(asked, reference)
    return { content: memoryContent(manifest), outcome: 'hit' }
  }

  async headManifest(asked: Asked, reference: Reference): Promise<Head> {
    const { digest, mediaType, bytes } = await this.#requireManifest(asked, reference)
    return { digest, mediaType, sizeBytes: bytes.byteLength, outcome: 'hit' }
  }

  async pullBlob(asked: Asked, digest: Digest): Promise<Answer> {
    await this.#requireBlob(asked, digest)
    const content = await this.#proofs.open(digest)
    if (content === undefined) throw this.#lost(asked, digest, 'BLOB_UNKNOWN')
    return { content, outcome: 'hit' }
  }

  async headBlob(asked: Asked, digest: Digest): Promise<Head> {
    await this.#requireBlob(asked, digest)
    await using object = await this.#parts.store.open(digest)
    if (object === undefined) throw this.#lost(asked, digest, 'BLOB_UNKNOWN')
    return { digest, mediaType: OCTET_STREAM, sizeBytes: object.sizeBytes, outcome: 'hit' }
  }

  /** Tags in the order of their bytes, as the specification wants it. */
  async listTags(asked: Asked, { n, last }: TagsPageRequest): Promise<Listing<TagsPage>> {
    if (!(await this.shelf.knows(asked)))
      throw new OciError('NAME_UNKNOWN', 'nothing was ever pushed to this repository')
    const tags: string[] = await Array.fromAsync(this.shelf.tags(asked))
    const rest = tags.filter(tag => last === undefined || tag > last).sort()
    const page = n === undefined ? rest : rest.slice(0, n)
    const isMore = page.length > 0 && page.length < rest.length
    return { value: { tags: page, next: isMore ? { n, last: page.at(-1) } : undefined }, outcome: 'hit' }
  }

  async referrers(asked: Asked, question: ReferrersQuestion): ReturnType<Answering['referrers']> {
    const parts = { shelf: this.shelf, manifests: this.#manifests }
    return { value: await listReferrers(parts, asked, question), outcome: 'hit' }
  }

  async beginUpload(asked: Asked, algorithm: DigestAlgorithm | undefined): Promise<UploadState> {
    // What cannot be kept is refused before its bytes come.
    await this.#receive(asked, { sizeBytes: 0 }, async () => await Promise.resolve())
    return await storing(async () => await this.uploads.begin(asked, algorithm))
  }

  async uploadState(asked: Asked, id: UploadId): Promise<UploadState> {
    return await this.uploads.state(asked, id)
  }

  async appendUpload(asked: Asked, id: UploadId, part: UploadPart): Promise<PartOutcome> {
    return await storing(async () => await this.uploads.append(asked, id, part))
  }

  /** A client whose first answer was lost may finish twice: the blob is here then. */
  async finishUpload(
    asked: Asked,
    { id, digest }: { readonly id: UploadId; readonly digest: Digest },
    part: UploadPart,
  ): Promise<PartOutcome | undefined> {
    const make = async (upload: UploadBytes): Promise<void> => await this.#link(asked, digest, upload)
    try {
      return await storing(async () => await this.uploads.finish(asked, { id, digest }, { part, make }))
    } catch (error) {
      const isEnded = error instanceof OciError && error.code === 'BLOB_UPLOAD_UNKNOWN'
      if (isEnded && (await this.#hasBlob(asked, digest))) return undefined
      throw error
    }
  }

  async cancelUpload(asked: Asked, id: UploadId): Promise<void> {
    await this.uploads.cancel(asked, id)
  }

  /** A blob in one request. It cannot be resumed: the client does not know the name of an upload. */
  async pushBlob(asked: Asked, digest: Digest, bytes: IncomingBytes): Promise<void> {
    const { store } = this.#parts
    const upload = new UploadBytes({
      id: newUploadId(),
      place: placeOf(asked),
      store,
      algorithm: algorithmOf(digest),
      digest,
      syncedBytes: 0,
      isNew: true,
    })
    await storing(async () => {
      try {
        const part = { ...bytes, start: undefined }
        const expected = { sizeBytes: bytes.sizeBytes ?? 0, digest }
        await this.#receive(asked, expected, async () => await upload.append(part, NEVER))
        const actual = await upload.digest(algorithmOf(digest))
        if (actual !== digest)
          throw new OciError(
            'DIGEST_INVALID',
            `the ${upload.receivedBytes} bytes received have the digest ${actual}`,
          )
        await this.#link(asked, digest, upload)
      } finally {
        await upload.remove()
      }
    })
  }

  /** Gives the repository a blob of another one, without an upload. */
  async mountBlob(asked: Asked, { digest, from, mayPull }: MountRequest): Promise<boolean> {
    const source = await this.#sourceOf(digest, from, mayPull)
    if (source === undefined) return false
    const { store } = this.#parts
    await using object = await store.open(digest)
    if (object === undefined) return false
    return await storing(
      async () =>
        await this.publishing.link(actorOf(asked), { digest, sizeBytes: object.sizeBytes }, async () => {
          await using still = await store.open(digest)
          return still === undefined ? undefined : []
        }),
    )
  }

  async pushManifest(asked: Asked, incoming: IncomingManifest): Promise<PublishedManifest> {
    const { bytes, reference, contentType } = incoming
    const manifest = readIncoming(bytes, contentType)
    const digest = digestOf(bytes, reference.kind === 'digest' ? algorithmOf(reference.digest) : 'sha256')
    if (reference.kind === 'digest' && reference.digest !== digest)
      throw new OciError('DIGEST_INVALID', `the manifest has the digest ${digest}`)
    const tags = [...new Set([...(reference.kind === 'tag' ? [reference.tag] : []), ...incoming.tags])]
    const publication = { ...actorOf(asked), digest, bytes, manifest, tags }
    const warnings = await storing(async () => await this.publishing.publish(publication))
    return { digest, subject: manifest.subject, warnings }
  }

  async deleteManifest(asked: Asked, reference: Reference): Promise<void> {
    const actor = actorOf(asked)
    const isGone =
      reference.kind === 'tag'
        ? await this.publishing.untag(actor, reference.tag)
        : await this.publishing.withdraw(actor, reference.digest)
    if (!isGone) throw unknownManifest(reference)
  }

  async deleteBlob(asked: Asked, digest: Digest): Promise<void> {
    if (!(await this.publishing.unlink(actorOf(asked), digest))) throw unknownBlob(digest)
  }

  /** The subject of a stored manifest, as far as it can be read. */
  async subjectOf(digest: Digest): Promise<Digest | undefined> {
    return (await this.#parsed(digest))?.subject
  }

  /** The manifests that a stored index names, as far as it can be read. */
  async childrenOf(digest: Digest): Promise<readonly Digest[]> {
    return (await this.#parsed(digest))?.manifests.map(child => child.digest) ?? []
  }

  async #parsed(digest: Digest): Promise<PushedManifest | undefined> {
    const stored = await this.#manifests.find(digest)
    try {
      return stored === undefined ? undefined : parsePushedManifest(stored.bytes)
    } catch (error) {
      if (error instanceof ManifestError) return undefined
      throw error
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.uploads[Symbol.asyncDispose]()
    await this.publishing.settled()
    await this.#proofs[Symbol.asyncDispose]()
  }

  async #requireManifest(asked: Asked, reference: Reference): Promise<StoredManifest> {
    const digest =
      reference.kind === 'digest' ? reference.digest : (await this.shelf.tag(asked, reference.tag))?.digest
    if (digest === undefined) throw unknownManifest(reference)
    const name = { kind: 'hosted-manifest', ...placeOf(asked), digest } as const
    const record = await this.shelf.content(name)
    if (record === undefined) throw unknownManifest(reference)
    if (asked.mayPush && !(await this.publishing.claim(name, record))) throw unknownManifest(reference)
    const manifest = await this.#manifests.find(digest)
    if (manifest === undefined) throw this.#lost(asked, digest, 'MANIFEST_UNKNOWN')
    return manifest
  }

  async #requireBlob(asked: Asked, digest: Digest): Promise<void> {
    const name = { kind: 'hosted-blob', ...placeOf(asked), digest } as const
    const record = await this.shelf.content(name)
    if (record === undefined) throw unknownBlob(digest)
    if (asked.mayPush && !(await this.publishing.claim(name, record))) throw unknownBlob(digest)
  }

  /** Receives bytes if the rules allow so many. */
  readonly #receive: UploadsParts['receive'] = async (asked, expected, action) => {
    const { place, by } = actorOf(asked)
    return await underRules(this.#parts.parties, { kind: 'receive', ...place, by, ...expected }, action)
  }

  async #hasBlob(asked: Asked, digest: Digest): Promise<boolean> {
    return (await this.shelf.content({ kind: 'hosted-blob', ...placeOf(asked), digest })) !== undefined
  }

  async #link(asked: Asked, digest: Digest, upload: UploadBytes): Promise<void> {
    const content = { digest, sizeBytes: upload.receivedBytes }
    await this.publishing.link(actorOf(asked), content, async () => [await upload.contentWrite(digest)])
    await this.#proofs.trust(digest)
  }

  /** A repository that has the blob and from which the client may pull. */
  async #sourceOf(
    digest: Digest,
    from: Place | undefined,
    mayPull: (place: Place) => boolean,
  ): Promise<Place | undefined> {
    const has = async (place: Place): Promise<boolean> =>
      (await this.shelf.content({ kind: 'hosted-blob', ...place, digest })) !== undefined
    if (from !== undefined) return mayPull(from) && (await has(from)) ? from : undefined
    for await (const { by, ...place } of this.shelf.holds(digest))
      if (by === undefined && mayPull(place) && (await has(place))) return place
    return undefined
  }

  /** Content that was acknowledged is damaged or gone: the next push of it heals that. */
  #lost(asked: Asked, digest: Digest, code: 'BLOB_UNKNOWN' | 'MANIFEST_UNKNOWN'): OciError {
    this.#parts.events.hostedContentLost({ ...placeOf(asked), digest })
    return new OciError(code, `${digest} was pushed here, but its bytes are damaged or gone: push it again`)
  }
}

const NEVER = new AbortController().signal

function readIncoming(bytes: Uint8Array, contentType: string | undefined): PushedManifest {
  if (bytes.byteLength > MANIFEST_SIZE_MAX)
    throw new OciError('BODY_TOO_LARGE', `the manifest is larger than ${MANIFEST_SIZE_MAX} bytes`)
  try {
    return parsePushedManifest(bytes, contentType)
  } catch (error) {
    if (!(error instanceof ManifestError)) throw error
    throw new OciError('MANIFEST_INVALID', error.message, { cause: error })
  }
}

function placeOf({ namespace, repository }: Place): Place {
  return { namespace, repository }
}

function actorOf(asked: Asked): Actor {
  return { place: placeOf(asked), by: asked.actor }
}

function unknownManifest(reference: Reference): OciError {
  const text = reference.kind === 'tag' ? `tag ${reference.tag}` : `manifest ${reference.digest}`
  return new OciError('MANIFEST_UNKNOWN', `this repository is hosted here and has no ${text}`)
}

function unknownBlob(digest: Digest): OciError {
  return new OciError('BLOB_UNKNOWN', `this repository is hosted here and has no blob ${digest}`)
}
