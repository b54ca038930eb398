import type { ShelfQuery, ShelvedImage } from '../../content/index/change.ts'
import { OciError } from '../../oci/error.ts'
import { formatImage } from '../../oci/image-name.ts'
import { kindOf, registryOf } from '../query.ts'
import type { AdminPageParts } from './page-parts.ts'

/** Images on a page. */
const ROWS = 50
/** Time that one page may take to find its rows, in milliseconds; the rest is on the next page. */
const LOOKING_MS = 50
const SEARCH_MAX = 300
const CURSOR = /^[\w.:/@~[\]-]{0,400}(?: [\w.:/@~[\]-]{0,400}){0,2}$/
const DAY_MS = 24 * 3_600_000

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
    kind: kindOf(form),
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
