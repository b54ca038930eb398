import type { HostedTag } from '../content/tag-record.ts'
import type { Clock } from '../lib/clock.ts'
import type { Digest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import type { Tag } from '../oci/name.ts'
import type { Place } from '../oci/place.ts'
import type { PushedManifest, requiredBy } from '../oci/pushed-manifest.ts'
import type { Store, StoreWrite } from '../storage/store.ts'
import {
  type ActParties,
  announcing,
  judgeAct,
  mustBeFirst,
  reportAct,
  type TagAct,
  tagTaken,
  underRules,
  writesBeside,
} from './acts.ts'
import type { CollectionMarks } from './collection-marks.ts'
import type { MissingContent, Shelf } from './shelf.ts'

type Named = ReturnType<typeof requiredBy>

/** A manifest to publish in a repository, under any number of tags. */
export interface Publication {
  readonly place: Place
  readonly digest: Digest
  readonly bytes: Uint8Array
  readonly manifest: PushedManifest
  readonly tags: readonly Tag[]
  readonly by: string | undefined
}

export interface PublisherParts {
  readonly store: Store
  readonly shelf: Shelf
  readonly clock: Pick<Clock, 'wallMs'>
  readonly parties: ActParties
  /** Marks of the collection; without them nothing is collected. */
  readonly marks?: CollectionMarks
}

/**
 * Writes manifests and tags; {@link Publishing} sees to it that the digests and tags concerned stay as they
 * are meanwhile. All is read first, then judged, then held, then written: a manifest costs a handful of waits
 * and two syncs, which pushes at the same time share.
 */
export class Publisher {
  readonly #parts: PublisherParts

  constructor(parts: PublisherParts) {
    this.#parts = parts
  }

  /** Publishes a manifest and sets its tags. Returns the warnings of the rules. */
  async publish(publication: Publication, named: Named): Promise<readonly string[]> {
    const { place, digest, bytes, manifest, by, tags } = publication
    const { shelf, parties } = this.#parts
    const { isKnown, froms, missing } = await shelf.lookAround(place, { digest, tags, ...named })
    const { mediaType, subject } = manifest
    const [isNew, sizeBytes] = [!isKnown, bytes.byteLength]
    const act = { kind: 'publish', ...place, by, digest, mediaType, sizeBytes, subject, isNew } as const
    const acts = tags.map((tag, at): TagAct => ({ kind: 'tag', ...place, by, tag, digest, from: froms[at] }))
    return await underRules(parties, act, async warnings => {
      const all = [...warnings]
      for (const one of acts) all.push(...(await judgeAct(parties, one)))
      requireNone(missing)
      await announcing(parties, [act, ...acts], async announced => {
        await this.#write(publication, named, { acts, announced })
        await reportAct(parties, act)
        await this.#createFirst(acts)
        await this.#reportTags(acts)
      })
      return all
    })
  }

  async #write(
    publication: Publication,
    named: Named,
    { acts, announced }: { readonly acts: readonly TagAct[]; readonly announced: Promise<unknown> },
  ): Promise<void> {
    const { place, digest, bytes, manifest } = publication
    const { shelf, store } = this.#parts
    const [{ notes, moves }] = await Promise.all([
      this.#writesOf(acts),
      this.#holdAll(place, digest, named),
      announced,
    ])
    const { subject } = manifest
    const referred = subject === undefined ? [] : [shelf.referrerWrite(place, subject, digest)]
    const content = { kind: 'content', digest, bytes } as const
    await store.writeSteps(
      [[content, ...referred, ...notes], [this.#recordOf(publication)], moves],
      'durable',
    )
  }

  /** Sets a tag to a manifest that the repository has. */
  async tag(
    { place, by }: Pick<Publication, 'place' | 'by'>,
    tag: Tag,
    digest: Digest,
  ): Promise<readonly string[]> {
    const { shelf, parties, store } = this.#parts
    const from = (await shelf.tag(place, tag))?.digest
    const act: TagAct = { kind: 'tag', ...place, by, tag, digest, from }
    const warnings = await judgeAct(parties, act)
    await announcing(parties, [act], async announced => {
      const [{ notes, moves }] = await Promise.all([this.#writesOf([act]), announced])
      await store.writeSteps([notes, moves], 'durable')
      await this.#createFirst([act])
      await this.#reportTags([act])
    })
    return warnings
  }

  #recordOf({ place, digest, bytes, manifest: { mediaType }, by }: Publication): StoreWrite {
    const nowMs = this.#parts.clock.wallMs()
    const record = { sizeBytes: bytes.byteLength, mediaType, pushedAtMs: nowMs, claimedAtMs: nowMs, by }
    return this.#parts.shelf.contentWrite({ kind: 'hosted-manifest', ...place, digest }, record)
  }

  /** Holds all that a manifest names for the manifest, and checks again what was being collected. */
  async #holdAll(place: Place, digest: Digest, named: Named): Promise<void> {
    const { shelf, marks } = this.#parts
    await shelf.know(place)
    const children = [...named.blobs, ...named.manifests]
    await shelf.hold(place, digest, children)
    while ((await marks?.spareAll([digest, ...children])) === true) {
      // Another process may have collected something since the check, or let an old hold go.
      await shelf.hold(place, digest, children)
      const { missing } = await shelf.lookAround(place, { digest, tags: [], ...named })
      requireNone(missing)
    }
  }

  /** Creates the tags that keep their first digest; throws if another process has set one meanwhile. */
  async #createFirst(acts: readonly TagAct[]): Promise<void> {
    const { shelf, parties, store } = this.#parts
    for (const act of acts) {
      if (!mustBeFirst(parties, act)) continue
      const { tag, digest } = act
      const beside = await writesBeside(parties, act)
      const first = await shelf.createTag(act, tag, this.#tagRecordOf(act))
      if (first !== undefined && first !== digest) throw tagTaken(tag, first, digest)
      if (beside.length > 0) await store.writeSteps([beside], 'durable')
    }
  }

  #tagRecordOf({ digest, by }: TagAct): HostedTag {
    return { digest, movedAtMs: this.#parts.clock.wallMs(), by }
  }

  /** The writes that set tags: the notes that they may name the manifest, and then the tags. */
  async #writesOf(
    acts: readonly TagAct[],
  ): Promise<{ readonly notes: readonly StoreWrite[]; readonly moves: readonly StoreWrite[] }> {
    const { shelf, parties } = this.#parts
    const [notes, moves]: [StoreWrite[], StoreWrite[]] = [[], []]
    for (const act of acts) {
      if (mustBeFirst(parties, act)) continue
      const [note, move] = shelf.tagWrites(act, act.tag, this.#tagRecordOf(act))
      notes.push(note)
      moves.push(...(await writesBeside(parties, act)), move)
    }
    return { notes, moves }
  }

  async #reportTags(acts: readonly TagAct[]): Promise<void> {
    for (const act of acts) await reportAct(this.#parts.parties, act)
  }
}

function requireNone({ blobs, manifests }: MissingContent): void {
  const [first] = [...blobs, ...manifests]
  if (first === undefined) return
  const count = blobs.length + manifests.length
  const what = blobs.length > 0 ? 'blob' : 'manifest'
  const more = count === 1 ? '' : ` and ${count - 1} more`
  throw new OciError(
    'MANIFEST_BLOB_UNKNOWN',
    `the manifest names the ${what} ${first}${more}, which this repository does not have`,
  )
}
