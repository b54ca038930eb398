import type { CollectLine } from '../../admin/contract.ts'
import { ConfigError, flagProblem } from '../../config/problem.ts'
import { parseBytes } from '../../lib/bytes.ts'
import { countText, sizeText } from '../../lib/words/amounts.ts'
import { EXIT, type ExitCode } from '../environment.ts'
import { type AdminCall, adminTool } from './command.ts'
import { requireNoWords } from './images.ts'

/** `entrepot gc`: evicts now. */
export const gc = adminTool({
  usage: '[options]',
  description:
    'Evict now: expired content and content above the limits, or as much as --free says. With --hosted, apply the\nretention of hosted repositories and collect what none of them needs.',
  flags: {
    free: {
      type: 'text',
      value: 'SIZE',
      description: 'evict this much, such as 20GiB, least recently used first',
    },
    hosted: { type: 'boolean', description: 'clean up hosted repositories instead of the cache' },
    'dry-run': { type: 'boolean', description: 'change nothing, and print what would go' },
  },
  examples: [
    ['gc --hosted --dry-run', 'what would go of hosted repositories, and why'],
    ['gc', 'evict what the limits ask for'],
    ['gc --free 20GiB', 'make room'],
  ],
  run,
})

async function run({ words, connection, isJson, print }: AdminCall): Promise<ExitCode> {
  requireNoWords(words)
  if (words.isOn('hosted')) return await collect({ words, connection, isJson, print })
  const text = words.text('free')
  const bytes = text === undefined ? undefined : parseBytes(text)
  if (text !== undefined && (bytes === undefined || bytes === 0))
    throw new ConfigError([flagProblem('free', `is not a size: ${text}`, 'such as 512MiB or 20GiB')])
  const isDryRun = words.isOn('dry-run')
  const evicted = await connection.ask('POST evict', {
    bytes: bytes === undefined ? undefined : String(bytes),
    ...(isDryRun ? { 'dry-run': 'true' } : {}),
  })
  if (isJson) print(JSON.stringify(evicted))
  else if (evicted.objects === 0) print('nothing to evict, or everything is in use or pinned')
  else
    print(
      `${isDryRun ? 'would evict' : 'evicted'} ${countText(evicted.objects, 'object')}, ${sizeText(evicted.bytes)}`,
    )
  return EXIT.ok
}

type CollectCall = Pick<AdminCall, 'words' | 'connection' | 'isJson' | 'print'>

async function collect({ words, connection, isJson, print }: CollectCall): Promise<ExitCode> {
  if (words.text('free') !== undefined)
    throw new ConfigError([flagProblem('free', 'has no meaning beside --hosted', undefined)])
  const isDry = words.isOn('dry-run')
  for await (const line of connection.follow('POST collect', { 'dry-run': isDry ? 'true' : undefined })) {
    if (isJson) print(JSON.stringify(line))
    else print(collectText(line, isDry))
  }
  return EXIT.ok
}

function collectText(line: CollectLine, isDry: boolean): string {
  switch (line.event) {
    case 'tag':
      return `${line.isKept ? 'keep  ' : 'remove'}  ${line.image}  ${line.why}`
    case 'content': {
      const where = line.repositories.length === 0 ? '' : `  of ${line.repositories.join(', ')}`
      return `${line.action.padEnd(6)}  ${line.digest}  ${sizeText(line.sizeBytes)}${where}  ${line.why}`
    }
    case 'done': {
      const verb = isDry ? 'would remove' : 'removed'
      return `${verb} ${countText(line.tags, 'tag')} and ${countText(line.objects, 'object')}, ${sizeText(line.bytes)} freed`
    }
    default:
      return line satisfies never
  }
}
