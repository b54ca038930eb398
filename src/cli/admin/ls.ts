import type { ListedBlob, ListedImage } from '../../admin/contract.ts'
import { ConfigError, flagProblem, wordProblem } from '../../config/problem.ts'
import { agoText, digestText, sizeText } from '../../lib/words/amounts.ts'
import { imageMatcher } from '../../oci/image-pattern.ts'
import { EXIT, type ExitCode } from '../environment.ts'
import type { Paint } from '../style.ts'
import type { ToolWords } from '../tool.ts'
import { type AdminCall, adminTool } from './command.ts'
import type { Query } from './connection.ts'
import { requireNoWords } from './images.ts'
import { tableText } from './text.ts'

const KINDS: readonly string[] = ['cached', 'hosted']
const IMAGE_ORDERS: readonly string[] = ['name', 'last-use', 'size', 'hits']
const BLOB_ORDERS: readonly string[] = ['last-use', 'size', 'hits']
const LIMIT = 1000

/** `entrepot ls [pattern]…`: lists what is cached and hosted. */
export const ls = adminTool({
  usage: '[pattern]… [options]',
  description:
    'List cached and hosted images, or all blobs and manifests with --blobs. A pattern is a registry, the beginning of a\nrepository or an image; * stands for any characters.',
  flags: {
    blobs: { type: 'boolean', description: 'list blobs and manifests' },
    kind: {
      type: 'text',
      value: 'cached|hosted',
      values: KINDS,
      description: 'only images that are cached, or only those that were pushed here',
    },
    registry: { type: 'text', value: 'NAME', description: 'only images of this registry, such as ghcr.io' },
    sort: {
      type: 'text',
      value: 'ORDER',
      values: IMAGE_ORDERS,
      description:
        'name (the default), last-use, size or hits; with --blobs last-use (the default), size or hits',
    },
    limit: { type: 'text', value: 'COUNT', description: `at most this many; ${LIMIT} by default` },
    'no-trunc': { type: 'boolean', description: 'print complete digests, and all repositories of a blob' },
  },
  examples: [
    ['ls', 'all images, by name'],
    ['ls ghcr.io --sort size --limit 20', 'the largest images of a registry'],
    ["ls 'alpine:3.*' --no-trunc", 'images by pattern, with complete digests'],
    ['ls --kind hosted', 'what was pushed here'],
    ['ls --blobs --sort size --limit 20', 'what takes up the room'],
  ],
  completes: 'images',
  run,
})

async function run(call: AdminCall): Promise<ExitCode> {
  const { words, isJson, print, environment, paint } = call
  const limit = limitOf(words)
  const list = words.isOn('blobs') ? await listBlobs(call, limit) : await listImages(call, limit)
  if (isJson) for (const entry of list.entries) print(JSON.stringify(entry))
  else if (list.entries.length > 0)
    print(tableOf(list.entries, { nowMs: Date.now(), isWhole: words.isOn('no-trunc'), paint }))
  else if (list.isComplete) print(isEverything(words) ? 'nothing is stored' : 'nothing stored matches')
  for (const note of notesOn(list, limit)) environment.stderr.write(`entrepot: ${note}\n`)
  return EXIT.ok
}

function isEverything(words: ToolWords): boolean {
  return ['registry', 'kind'].every(flag => words.text(flag) === undefined) && words.words.length === 0
}

function limitOf(words: ToolWords): number {
  const limit = Number(words.text('limit') ?? LIMIT)
  if (Number.isInteger(limit) && limit >= 1) return limit
  throw new ConfigError([
    flagProblem('limit', `is not a whole number above 0: ${words.text('limit')}`, undefined),
  ])
}

interface List<Entry extends ListedImage | ListedBlob> {
  readonly entries: readonly Entry[]
  readonly isComplete: boolean
  /** Number of further entries; `undefined` if it is not known how many there are. */
  readonly left: number | undefined
}

/** What the reader must know to take the list for what it is. */
function notesOn({ isComplete, left }: List<ListedImage | ListedBlob>, limit: number): readonly string[] {
  const more = left === undefined ? 'there are more' : `${left} more ${left === 1 ? 'is' : 'are'} left out`
  return [
    ...(isComplete
      ? []
      : ['the index is being rebuilt from the store: this list is not complete yet (see entrepot status)']),
    ...(left === 0 ? [] : [`${more}: --limit is ${limit}`]),
  ]
}

const PAGE = 500

async function listBlobs({ connection, words }: AdminCall, limit: number): Promise<List<ListedBlob>> {
  requireNoWords(words)
  const [useless] = ['registry', 'kind'].filter(flag => words.text(flag) !== undefined)
  if (useless !== undefined)
    throw new ConfigError([flagProblem(useless, 'has no effect with --blobs', undefined)])
  const sort = sortOf(words, BLOB_ORDERS)
  return await allPages(limit, async page => {
    const { blobs: entries, ...rest } = await connection.ask('GET blobs', { sort, ...page })
    return { entries, total: undefined, ...rest }
  })
}

async function listImages({ connection, words }: AdminCall, limit: number): Promise<List<ListedImage>> {
  const query = { ...selectionOf(words), kind: kindOf(words), sort: sortOf(words, IMAGE_ORDERS) }
  return await allPages(limit, async page => {
    const { images: entries, ...rest } = await connection.ask('GET images', { ...query, ...page })
    return { total: undefined, entries, ...rest }
  })
}

function kindOf(words: ToolWords): string | undefined {
  const kind = words.text('kind')
  if (kind === undefined || KINDS.includes(kind)) return kind
  throw new ConfigError([flagProblem('kind', `is not a kind: ${kind}`, `one of ${KINDS.join(', ')}`)])
}

function sortOf(words: ToolWords, orders: readonly string[]): string | undefined {
  const sort = words.text('sort')
  if (sort === undefined || orders.includes(sort)) return sort
  throw new ConfigError([flagProblem('sort', `is not an order: ${sort}`, `one of ${orders.join(', ')}`)])
}

/** The images that patterns and `--registry` select, as the admin API takes them. */
export function selectionOf(words: ToolWords): Query {
  const problems = words.words
    .filter(pattern => imageMatcher(pattern) === undefined)
    .map(pattern => wordProblem(pattern, 'is not a pattern', 'such as ghcr.io or docker.io/library/*'))
  if (problems.length > 0) throw new ConfigError(problems)
  return { pattern: words.words, registry: words.text('registry') }
}

interface ListPage<Entry> {
  readonly entries: readonly Entry[]
  readonly next?: string | undefined
  readonly total?: number | undefined
  readonly isComplete: boolean
}

async function allPages<Entry extends ListedImage | ListedBlob>(
  limit: number,
  ask: (page: { readonly after: string | undefined; readonly limit: string }) => Promise<ListPage<Entry>>,
): Promise<List<Entry>> {
  const entries: Entry[] = []
  let total: number | undefined
  let page: ListPage<Entry> | undefined
  do {
    page = await ask({ after: page?.next, limit: String(Math.min(PAGE, limit - entries.length)) })
    total ??= page.total
    entries.push(...page.entries)
  } while (page.next !== undefined && entries.length < limit)
  const left = page.next === undefined ? 0 : total === undefined ? undefined : total - entries.length
  return { entries, isComplete: page.isComplete, left }
}

interface Look {
  readonly nowMs: number
  /** Print digests and lists of repositories in full. */
  readonly isWhole: boolean
  readonly paint: Paint
}

function tableOf(entries: readonly (ListedImage | ListedBlob)[], look: Look): string {
  const rows = entries.map(entry => ('image' in entry ? imageRow(entry, look) : blobRow(entry, look)))
  const isImages = entries.some(entry => 'image' in entry)
  const heading = isImages
    ? ['IMAGE', 'DIGEST', 'SIZE', 'LAST USE', 'HITS', '']
    : ['DIGEST', 'KIND', 'SIZE', 'LAST USE', 'HITS', 'REPOSITORIES']
  return tableText([heading.map(text => look.paint('heading', text)), ...rows], new Set([2, 4]))
}

function imageRow(
  { image, digest, cachedBytes, isWhole, isPinned, isHosted, lastUse, hits }: ListedImage,
  look: Look,
): string[] {
  const notes = [!isWhole && 'partial', isPinned && 'pinned', isHosted && 'hosted'].filter(Boolean).join(', ')
  const name = look.isWhole ? image : image.replace(`@${digest}`, `@${digestText(digest)}`)
  const shown = look.isWhole ? digest : digestText(digest)
  return [name, shown, sizeText(cachedBytes), agoText(lastUse, look.nowMs), String(hits), notes]
}

const REPOSITORIES_SHOWN = 2

function blobRow(blob: ListedBlob, { nowMs, isWhole }: Look): string[] {
  const { digest, sizeBytes, lastUse, hits, isManifest, isPinned, repositories } = blob
  const shown = isWhole ? repositories : repositories.slice(0, REPOSITORIES_SHOWN)
  const more = repositories.length - shown.length
  const places = `${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}`
  const kind = `${isManifest ? 'manifest' : 'blob'}${isPinned ? ', pinned' : ''}`
  const name = isWhole ? digest : digestText(digest)
  return [name, kind, sizeText(sizeBytes), agoText(lastUse, nowMs), String(hits), places]
}
