import type { DaemonReport, SpaceReport } from '../../admin/contract.ts'
import { EXIT, type ExitCode } from '../environment.ts'
import { type AdminCall, adminTool } from './command.ts'
import { requireNoWords } from './images.ts'
import { barText, countText, digestText, sizeText, spanText, tableText } from './text.ts'

/** `entrepot status`: the size of the cache and current downloads. */
export const status = adminTool({
  usage: '[options]',
  description: 'Show the size of the cache, its share by registry, and current downloads.',
  run,
})

async function run({ words, connection, isJson, print }: AdminCall): Promise<ExitCode> {
  requireNoWords(words)
  const answer = await connection.ask('GET status')
  const { flows } = await connection.ask('GET flows')
  if (isJson) {
    print(JSON.stringify({ ...answer, flows }))
    return EXIT.ok
  }
  print(
    `entrepot ${answer.version}, up ${spanText(Date.now() - Date.parse(answer.startedAt))}, ${answer.store}`,
  )
  if (answer.storeTrouble !== undefined)
    print(`trouble   nothing is cached, pulls pass through: ${answer.storeTrouble}`)
  if (answer.space === null) print('space     kept by the bucket and its lifecycle rules')
  else for (const line of spaceLines(answer.space)) print(line)
  for (const { record, count, outcome } of answer.damagedRecords)
    print(`damaged   ${count} of ${record}, ${outcome}: see the log`)
  for (const line of lostLines(answer.lostTags)) print(line)
  print(flows.length === 0 ? 'flows     none' : `flows     ${flows.length}`)
  for (const { namespace, repository, digest, writtenBytes, sizeBytes, readers } of flows) {
    const part = sizeBytes === undefined ? 0 : writtenBytes / sizeBytes
    const of = sizeBytes === undefined ? '' : ` of ${sizeText(sizeBytes)}`
    print(
      `  ${digestText(digest)}  ${barText(part, 20)}  ${sizeText(writtenBytes)}${of}  ${namespace}/${repository}, ${readers} waiting`,
    )
  }
  return EXIT.ok
}

const LOST_SHOWN_MAX = 10

function lostLines(lostTags: DaemonReport['lostTags']): readonly string[] {
  if (lostTags.length === 0) return []
  const shown = lostTags.slice(0, LOST_SHOWN_MAX)
  return [
    `lost      ${countText(lostTags.length, 'tag')} deleted upstream, still served`,
    ...shown.map(({ image, lostForMs }) => `  ${image}  since ${spanText(lostForMs)}`),
    ...(shown.length < lostTags.length ? [`  and ${lostTags.length - shown.length} more`] : []),
  ]
}

const INDEX_TEXT = {
  absent: 'not opened yet',
  open: 'complete',
  locked: 'in use by another process, which enforces the limits',
  failed: 'cannot be opened: see the log',
} as const satisfies Record<SpaceReport['indexState'], string>

function spaceLines(space: SpaceReport): readonly string[] {
  const { usedBytes, maxBytes, freeBytes, minFreeBytes, objects, storedBytes, scratchBytes } = space
  const bound =
    maxBytes === undefined ? 'no maximum' : `${barText(usedBytes / maxBytes, 20)} of ${sizeText(maxBytes)}`
  const state =
    space.indexState === 'open' && !space.isComplete
      ? 'being rebuilt from the store'
      : INDEX_TEXT[space.indexState]
  const lines = [
    `used      ${sizeText(usedBytes)}  ${bound}`,
    `content   ${countText(objects, 'object')}, ${sizeText(storedBytes)}; downloads and leftovers ${sizeText(scratchBytes)}`,
    ...(space.links === undefined ? [] : [`links     ${space.links}`]),
    ...(freeBytes === undefined
      ? []
      : [`free      ${sizeText(freeBytes)}, at least ${sizeText(minFreeBytes)} is left`]),
    `index     ${state}`,
  ]
  if (space.dynamicShare < 1) {
    lines.push(
      `share     ${sizeText(space.dynamicBytes)} of registries that are not configured, at most ${Math.round(space.dynamicShare * 100)} %`,
    )
  }
  const namespaces = Object.entries(space.bytesByNamespace).toSorted(([, one], [, other]) => other - one)
  if (namespaces.length === 0) return lines
  const rows = namespaces.map(([name, bytes]) => [name === '' ? '(never asked for)' : name, sizeText(bytes)])
  return [
    ...lines,
    ...tableText(rows, new Set([1]))
      .split('\n')
      .map(line => `  ${line}`),
  ]
}
