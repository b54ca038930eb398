import type { RemovedImage } from '../../admin/contract.ts'
import { ConfigError, flagProblem } from '../../config/problem.ts'
import { parseDuration } from '../../lib/duration.ts'
import { countText, sizeText } from '../../lib/words/amounts.ts'
import { EXIT, type ExitCode } from '../environment.ts'
import type { ToolWords } from '../tool.ts'
import { type AdminCall, adminTool, forEachWord } from './command.ts'
import type { Query } from './connection.ts'
import { someImages } from './images.ts'
import { selectionOf } from './ls.ts'

/** `entrepot rm <image | pattern>…`: removes images from the cache. */
export const rm = adminTool({
  usage: '<image | pattern>… [options]',
  description:
    'Remove images from the cache, with all content that no other cached image needs. A pattern contains * or ?,\nor comes with --registry or --unused-for. Pinned images stay. Exit code 1 if one could not be removed.',
  flags: {
    registry: { type: 'text', value: 'NAME', description: 'images of this registry, such as ghcr.io' },
    'unused-for': {
      type: 'text',
      value: 'TIME',
      description: 'images that nobody has pulled for this long, such as 30d',
    },
    'dry-run': { type: 'boolean', description: 'remove nothing, and print what would be removed' },
  },
  examples: [
    ['rm alpine:3.20', 'one image'],
    ["rm 'docker.io/team/*' --dry-run", 'what a pattern would remove'],
    ['rm --registry ghcr.io --unused-for 30d', 'what nobody has pulled for a month'],
  ],
  completes: 'images',
  run,
})

const UNUSED_DEFAULT = '7d'
const UNUSED_DEFAULT_MS = 7 * 24 * 3_600_000

/** `entrepot prune [pattern]…`: removes images that no tag leads to. */
export const prune = adminTool({
  usage: '[pattern]… [options]',
  description:
    'Remove images that no tag leads to any more, because their tags have moved, and that nobody has pulled by\ndigest lately; with all content that no other cached image needs. Pinned images stay.',
  flags: {
    registry: { type: 'text', value: 'NAME', description: 'only images of this registry, such as ghcr.io' },
    'unused-for': {
      type: 'text',
      value: 'TIME',
      description: `only images that nobody has pulled for this long; ${UNUSED_DEFAULT} by default`,
    },
    'dry-run': { type: 'boolean', description: 'remove nothing, and print what would be removed' },
  },
  examples: [
    ['prune --dry-run', 'what would be removed'],
    ['prune ghcr.io/owner --unused-for 1d', 'old digests of one owner'],
  ],
  run: async call => {
    const unusedMs = unusedForOf(call.words) ?? UNUSED_DEFAULT_MS
    const selection = { ...selectionOf(call.words), untagged: 'true', unused: String(unusedMs) }
    return await removeMatching(call, selection)
  },
})

async function run(call: AdminCall): Promise<ExitCode> {
  const { words } = call
  const unusedMs = unusedForOf(words)
  const isSelecting = unusedMs !== undefined || words.text('registry') !== undefined
  const hasPattern = words.words.some(word => /[*?]/.test(word))
  return isSelecting || hasPattern
    ? await removeMatching(call, { ...selectionOf(words), unused: unusedMs?.toString() })
    : await removeNamed(call)
}

/** The value of `--unused-for`. */
function unusedForOf(words: ToolWords): number | undefined {
  const text = words.text('unused-for')
  const unusedMs = text === undefined ? undefined : parseDuration(text)
  if (text === undefined || unusedMs !== undefined) return unusedMs
  throw new ConfigError([flagProblem('unused-for', `is not a duration: ${text}`, 'such as 12h or 30d')])
}

async function removeNamed(call: AdminCall): Promise<ExitCode> {
  const { connection, words } = call
  return await forEachWord(call, someImages(words), async image => {
    tell(call, await connection.ask('DELETE images', { image, ...dryRun(words) }))
  })
}

/** Removes all images of a selection, as the admin API takes it. */
async function removeMatching(call: AdminCall, selection: Query): Promise<ExitCode> {
  const { connection, words, environment, isJson, print } = call
  const sum = { images: 0, failures: 0, objects: 0, bytes: 0 }
  for await (const line of connection.follow('POST remove', { ...selection, ...dryRun(words) })) {
    if (isJson) print(JSON.stringify(line))
    if ('failure' in line) {
      sum.failures += 1
      if (!isJson) environment.stderr.write(`entrepot: ${line.image}: ${line.failure}\n`)
      continue
    }
    sum.images += 1
    sum.objects += line.objects
    sum.bytes += line.bytes
    if (!isJson) tell(call, line)
  }
  if (!isJson) print(summary(sum, words.isOn('dry-run')))
  return sum.failures === 0 ? EXIT.ok : EXIT.failure
}

function dryRun(words: ToolWords): Query {
  return words.isOn('dry-run') ? { 'dry-run': 'true' } : {}
}

function tell({ isJson, print, words }: AdminCall, removed: RemovedImage): void {
  if (isJson) {
    print(JSON.stringify(removed))
    return
  }
  const { image, objects, bytes, keptObjects } = removed
  const verb = words.isOn('dry-run') ? 'would remove' : 'removed'
  const kept =
    keptObjects === 0 ? '' : `; ${countText(keptObjects, 'object')} ${stays(keptObjects)} or not cached`
  print(`${verb} ${image}: ${countText(objects, 'object')}, ${sizeText(bytes)}${kept}`)
}

function stays(count: number): string {
  return count === 1 ? 'is kept' : 'are kept'
}

function summary(
  { images, objects, bytes }: { readonly images: number; readonly objects: number; readonly bytes: number },
  isDryRun: boolean,
): string {
  if (images === 0) return isDryRun ? 'nothing would be removed' : 'nothing was removed'
  const verb = isDryRun ? 'would remove' : 'removed'
  return `${verb} ${countText(images, 'image')}: ${countText(objects, 'object')}, ${sizeText(bytes)}`
}
