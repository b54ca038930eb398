import type { ImageEntry, ImageKind, ImageQuery, ObjectEntry } from '../content/index/change.ts'
import type { Mirror } from '../mirror/mirror.ts'
import { formatImage } from '../oci/image-name.ts'
import type { Desk } from '../space/desk.ts'
import type { BlobList, ImageList, ListedImage } from './contract.ts'
import { extentOf } from './explain.ts'
import {
  BLOB_CURSOR,
  blobOrderOf,
  cursorOf,
  IMAGE_CURSOR,
  imageOrderOf,
  isOn,
  kindOf,
  limitOf,
  patternsOf,
  registryOf,
  unusedMsOf,
} from './query.ts'
import { isoOf } from './times.ts'

/** Images read at once for a list by size. */
const BATCH = 500

/** A page of the images that match. */
export async function listImages(mirror: Mirror, desk: Desk, query: URLSearchParams): Promise<ImageList> {
  const [order, after, limit] = [imageOrderOf(query), cursorOf(query, IMAGE_CURSOR), limitOf(query)]
  const describe = await describer(mirror)
  if (order === 'size') {
    const all: ListedImage[] = []
    for await (const entry of matchingImages(desk, query, kindOf(query))) all.push(await describe(entry))
    return { ...pageBySize(all, after, limit), isComplete: desk.isComplete }
  }
  const { images, next, total } = await desk.listImages({ ...selectionOf(query), order, after, limit })
  return { images: await Promise.all(images.map(describe)), next, total, isComplete: desk.isComplete }
}

/** All images of a kind that a query selects, by name. */
export async function* matchingImages(
  desk: Desk,
  query: URLSearchParams,
  kind: ImageKind,
): AsyncGenerator<ImageEntry> {
  const selection = { ...selectionOf(query), kind }
  let after: string | undefined
  do {
    const page = await desk.listImages({ ...selection, order: 'name', after, limit: BATCH })
    yield* page.images
    after = page.next
  } while (after !== undefined)
}

/** A page of the stored blobs and manifests. */
export async function listBlobs(mirror: Mirror, desk: Desk, query: URLSearchParams): Promise<BlobList> {
  const order = blobOrderOf(query)
  const after = cursorOf(query, BLOB_CURSOR)
  const page = await desk.listObjects(order, after, limitOf(query))
  await mirror.pins.refresh()
  const blobs = page.objects.map(entry => ({
    ...objectFields(entry),
    isPinned: mirror.pins.has(entry.digest),
  }))
  return { blobs, next: page.next, isComplete: desk.isComplete }
}

function selectionOf(query: URLSearchParams): Omit<ImageQuery, 'order' | 'after' | 'limit'> {
  const unusedMs = unusedMsOf(query)
  return {
    kind: kindOf(query),
    patterns: patternsOf(query),
    namespace: registryOf(query),
    isUntagged: isOn(query, 'untagged'),
    usedBeforeMs: unusedMs === undefined ? undefined : Date.now() - unusedMs,
  }
}

/** The sizes of images are in no index, so that a page needs all of them. */
function pageBySize(
  all: readonly ListedImage[],
  after: string | undefined,
  limit: number,
): Omit<ImageList, 'isComplete'> {
  const sorted = all.toSorted((one, other) => other.cachedBytes - one.cachedBytes)
  const offset = Number(after ?? 0)
  const images = sorted.slice(offset, offset + limit)
  const end = offset + images.length
  return {
    images,
    next: end < sorted.length ? String(end) : undefined,
    total: after === undefined ? sorted.length : undefined,
  }
}

async function describer(mirror: Mirror): Promise<(entry: ImageEntry) => Promise<ListedImage>> {
  const pins = await mirror.pins.list()
  const pinned = new Set(
    pins.map(({ namespace, repository, reference }) => formatImage(namespace, repository, reference)),
  )
  return async entry => {
    const { digest, checkedAtMs, lastUseMs, hits, isHosted } = entry
    const image = imageName(entry)
    return {
      image,
      digest,
      checkedAt: checkedAtMs === undefined ? undefined : isoOf(checkedAtMs),
      lastUse: lastUseMs === undefined ? undefined : isoOf(lastUseMs),
      hits,
      ...extentOf(await mirror.inspection.manifest(digest)),
      isPinned: pinned.has(image),
      isHosted,
    }
  }
}

/** The full name of an image in the index. */
export function imageName({ namespace, repository, tag, digest }: ImageEntry): string {
  return `${namespace}/${repository}${tag === undefined ? `@${digest}` : `:${tag}`}`
}

function objectFields({ storedAtMs, lastUseMs, ...entry }: ObjectEntry): Omit<
  ObjectEntry,
  'storedAtMs' | 'lastUseMs'
> & {
  readonly storedAt: string
  readonly lastUse: string
} {
  return { ...entry, storedAt: isoOf(storedAtMs), lastUse: isoOf(lastUseMs) }
}
