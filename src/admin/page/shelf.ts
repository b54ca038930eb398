import type { ShelfQuery, ShelvedImage } from '../../content/index/change.ts'
import { OciError } from '../../oci/error.ts'
import { formatImage } from '../../oci/image-name.ts'
import { parseTag } from '../../oci/name.ts'
import type { Place } from '../../oci/place.ts'
import { extentOf } from '../explain.ts'
import { registryOf } from '../query.ts'
import type { AdminPageParts } from './page-parts.ts'

/** Images on a page. */
const ROWS = 50
/** Time that one page may take to find its rows, in milliseconds; the rest is on the next page. */
const LOOKING_MS = 50
const SEARCH_MAX = 300
const CURSOR = /^[\w.:/@~[\]-]{0,400}(?: [\w.:/@~[\]-]{0,400}){0,2}$/
const DAY_MS = 24 * 3_600_000
/** Hosted repositories that one page looks at. */
const REPOSITORIES_MAX = 2000

export interface FoundPage {
  readonly images: readonly ShelvedImage[]
  readonly next: string | undefined
  /** False while the index is being rebuilt. */
  readonly isComplete: boolean
  /** Full names of the pinned images. */
  readonly pinned: ReadonlySet<string>
}

/** Finds a page of images as the fields of the form say. */
export async function findImages(parts: AdminPageParts, form: URLSearchParams): Promise<FoundPage> {
  const pins = await parts.mirror.pins.list()
  const pinned = new Set(
    pins.map(({ namespace, repository, reference }) => formatImage(namespace, repository, reference)),
  )
  if (form.get('kind') === 'hosted') return { ...(await hostedPage(parts, form)), isComplete: true, pinned }
  const { desk } = parts
  if (desk === undefined)
    throw new OciError('UNSUPPORTED', 'this mirror is read-only and keeps no index of what is stored')
  const query = queryOf(form)
  const images: ShelvedImage[] = []
  let after = query.after
  const untilMs = performance.now() + LOOKING_MS
  do {
    const page = await desk.shelf({ ...query, after, limit: ROWS - images.length })
    images.push(...page.images)
    after = page.next
  } while (after !== undefined && images.length < ROWS && performance.now() < untilMs)
  return { images, next: after, isComplete: desk.isComplete, pinned }
}

function queryOf(form: URLSearchParams): ShelfQuery {
  const order = form.get('sort') ?? 'name'
  const cached = form.get('cached') ?? ''
  const unused = Number(form.get('unused') || 0)
  if (order !== 'name' && order !== 'last-use' && order !== 'size')
    throw new OciError('REQUEST_INVALID', 'sort must be name, last-use or size')
  if (!Number.isSafeInteger(unused) || unused < 0 || unused > 10_000)
    throw new OciError('REQUEST_INVALID', 'unused must be a number of days')
  return {
    order,
    search: searchIn(form),
    namespace: form.get('registry') ? registryOf(form) : undefined,
    isWhole: cached === 'whole' ? true : cached === 'partial' ? false : undefined,
    usedBeforeMs: unused === 0 ? undefined : Date.now() - unused * DAY_MS,
    after: cursorIn(form),
    limit: ROWS,
  }
}

function searchIn(form: URLSearchParams): string {
  return (form.get('q') ?? '').trim().slice(0, SEARCH_MAX)
}

function cursorIn(form: URLSearchParams): string | undefined {
  const after = form.get('after')
  if (after === null) return undefined
  if (CURSOR.test(after)) return after
  throw new OciError('REQUEST_INVALID', 'after must be the address of the next page')
}

/** The tags of hosted repositories, by name. They are in records of the store and not in the index. */
async function hostedPage(
  { hosting, mirror }: AdminPageParts,
  form: URLSearchParams,
): Promise<Pick<FoundPage, 'images' | 'next'>> {
  const { shelf } = hosting.hosted
  const [search, after] = [searchIn(form), cursorIn(form) ?? '']
  const places: Place[] = []
  for await (const place of shelf.repositories()) {
    places.push(place)
    if (places.length >= REPOSITORIES_MAX) break
  }
  const images: ShelvedImage[] = []
  for (const place of places.toSorted((one, other) => (nameOf(one) < nameOf(other) ? -1 : 1))) {
    if (!nameOf(place).includes(search.split(':')[0] ?? '')) continue
    const tags: string[] = []
    for await (const tag of shelf.tags(place)) {
      if (`${nameOf(place)}:${tag}`.includes(search) && `${nameOf(place)} ${tag}` > after) tags.push(tag)
    }
    for (const tag of tags.toSorted()) {
      if (images.length >= ROWS) {
        const last = images.at(-1)
        return { images, next: last === undefined ? undefined : `${nameOf(last)} ${last.tag ?? ''}` }
      }
      const image = await hostedImage({ shelf, mirror }, place, tag)
      if (image !== undefined) images.push(image)
    }
  }
  return { images, next: undefined }
}

async function hostedImage(
  { shelf, mirror }: Pick<AdminPageParts['hosting']['hosted'], 'shelf'> & Pick<AdminPageParts, 'mirror'>,
  { namespace, repository }: Place,
  text: string,
): Promise<ShelvedImage | undefined> {
  const tag = parseTag(text)
  const known = tag === undefined ? undefined : await shelf.tag({ namespace, repository }, tag)
  if (known === undefined) return undefined
  const { cachedBytes, missingBytes, isWhole } = extentOf(await mirror.inspection.manifest(known.digest))
  return {
    namespace,
    repository,
    tag,
    digest: known.digest,
    checkedAtMs: undefined,
    lastUseMs: known.movedAtMs,
    hits: 0,
    otherNames: 0,
    extent: { cachedBytes, missingBytes, lacks: isWhole ? 0 : 1 },
  }
}

function nameOf({
  namespace,
  repository,
}: {
  readonly namespace: string
  readonly repository: string
}): string {
  return `${namespace}/${repository}`
}
