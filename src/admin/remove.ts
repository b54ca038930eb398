import type { ImageEntry, ObjectEntry } from '../content/index/change.ts'
import { manifestUnknown } from '../mirror/manifests.ts'
import type { Mirror } from '../mirror/mirror.ts'
import type { Source } from '../mirror/sources.ts'
import type { Digest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import { parseTag, type Tag } from '../oci/name.ts'
import type { Place } from '../oci/place.ts'
import { type Reference, referenceText } from '../oci/reference.ts'
import type { Desk } from '../space/desk.ts'
import type { RemovedImage } from './contract.ts'

/** An image to remove. */
export interface Doomed {
  readonly source: Source
  readonly reference: Reference
}

export interface RemovalParts {
  readonly mirror: Mirror
  readonly desk: Desk | undefined
  /** True if a hosted repository holds the content: it stays. */
  readonly isHosted: (digest: Digest) => Promise<boolean>
  /** Removes nothing, and reports what would be removed. */
  readonly isDryRun: boolean
}

/** Removes images one after another. A dry run counts what its earlier images would have left behind. */
export class Removal {
  readonly #parts: RemovalParts
  /** Images that a dry run has counted as removed, by repository and reference. */
  readonly #gone = new Set<string>()
  /** Links that a dry run has counted as removed, by repository and digest. */
  readonly #unlinked = new Set<string>()
  readonly #removed = new Set<Digest>()

  constructor(parts: RemovalParts) {
    this.#parts = parts
  }

  /**
   * Removes an image from the cache: the tag (or, by digest, all tags of the repository that point to it),
   * and every object that no other cached image needs. Throws MANIFEST_UNKNOWN if none of it is cached, and
   * DENIED if it is pinned.
   */
  async remove({ source, reference }: Doomed): Promise<Omit<RemovedImage, 'image'>> {
    const { mirror, desk, isDryRun } = this.#parts
    await mirror.pins.refresh()
    await this.#requireUnpinned(source, reference)
    const report = await mirror.inspection.image(source, reference)
    const root = report.manifest
    if (root === undefined || (!root.isCached && report.tag === undefined))
      throw manifestUnknown(source, reference)
    const siblings = ((await desk?.imagesOf(source)) ?? []).filter(({ isHosted }) => !isHosted)
    const tags = tagsMeant(reference, root.digest, siblings)
    for (const tag of tags) {
      if (!isDryRun) await mirror.forgetManifest(source, { kind: 'tag', tag })
      this.#gone.add(keyOf(source, tag))
    }
    this.#gone.add(keyOf(source, referenceText(reference)))
    const rest = siblings.filter(image => !this.#isGone(source, image, root.digest))
    const own = await mirror.inspection.digestsOf(root.digest)
    const needed = await this.#neededBy(rest)
    const removed = await this.#removeObjects(source, {
      own: [...own].filter(digest => !needed.has(digest)),
      known: await desk?.objects([...own]),
    })
    return { tags, ...removed, keptObjects: own.size - removed.objects }
  }

  async #requireUnpinned(source: Source, reference: Reference): Promise<void> {
    const pins = await this.#parts.mirror.pins.list()
    const isPinned = pins.some(
      pin => samePlace(pin, source) && referenceText(pin.reference) === referenceText(reference),
    )
    if (isPinned) throw new OciError('DENIED', 'the image is pinned: unpin it first')
  }

  /** The image to remove counts as gone also where it is listed by its digest. */
  #isGone(source: Source, { tag, digest }: ImageEntry, root: Digest): boolean {
    return this.#gone.has(keyOf(source, tag ?? digest)) || (tag === undefined && digest === root)
  }

  async #neededBy(images: readonly ImageEntry[]): Promise<ReadonlySet<Digest>> {
    const needed = new Set<Digest>()
    for (const { digest } of images) {
      for (const named of await this.#parts.mirror.inspection.digestsOf(digest)) needed.add(named)
    }
    return needed
  }

  /** Without an index only the manifests are removed: nothing tells which other images need the blobs. */
  async #removeObjects(
    source: Source,
    { own, known }: { readonly own: readonly Digest[]; readonly known: readonly ObjectEntry[] | undefined },
  ): Promise<{ readonly objects: number; readonly bytes: number }> {
    const entries = new Map(known?.map(entry => [entry.digest, entry]))
    let objects = 0
    let bytes = 0
    for (const digest of own) {
      const entry = entries.get(digest)
      if (known === undefined && !(await this.#parts.mirror.inspection.manifest(digest, '')).isCached)
        continue
      const isShared = entry !== undefined && this.#isShared(source, entry)
      if (isShared || (await this.#parts.isHosted(digest))) {
        await this.#unlink(source, digest)
        continue
      }
      if (this.#parts.mirror.pins.has(digest)) continue
      const wasThere = await this.#forget(source, digest)
      if (!wasThere || (known !== undefined && entry === undefined)) continue
      objects += 1
      bytes += entry?.sizeBytes ?? 0
    }
    return { objects, bytes }
  }

  #isShared(source: Source, { digest, repositories }: ObjectEntry): boolean {
    const own = `${source.namespace}/${source.repository}`
    return repositories.some(name => name !== own && !this.#unlinked.has(`${name} ${digest}`))
  }

  /** Takes the repository's right to see content that another one still needs. */
  async #unlink(source: Source, digest: Digest): Promise<void> {
    if (this.#parts.isDryRun) this.#unlinked.add(`${source.namespace}/${source.repository} ${digest}`)
    else await this.#parts.mirror.unlink(source, digest)
  }

  async #forget(source: Source, digest: Digest): Promise<boolean> {
    if (!this.#parts.isDryRun)
      return await this.#parts.mirror.forgetManifest(source, { kind: 'digest', digest })
    const isNew = !this.#removed.has(digest)
    this.#removed.add(digest)
    return isNew
  }
}

function keyOf({ namespace, repository }: Place, reference: string): string {
  return `${namespace}/${repository} ${reference}`
}

function tagsMeant(reference: Reference, digest: Digest, siblings: readonly ImageEntry[]): readonly Tag[] {
  if (reference.kind === 'tag') return [reference.tag]
  return siblings
    .filter(image => image.digest === digest)
    .flatMap(({ tag }) => (tag === undefined ? [] : (parseTag(tag) ?? [])))
}

function samePlace(one: Place, other: Place): boolean {
  return one.namespace === other.namespace && one.repository === other.repository
}
