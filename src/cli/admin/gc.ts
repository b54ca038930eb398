import { ConfigError, flagProblem } from '../../config/problem.ts'
import { parseBytes } from '../../lib/bytes.ts'
import { EXIT, type ExitCode } from '../environment.ts'
import { type AdminCall, adminTool } from './command.ts'
import { requireNoWords } from './images.ts'
import { countText, sizeText } from './text.ts'

/** `entrepot gc`: evicts now. */
export const gc = adminTool({
  usage: '[options]',
  description: 'Evict now: expired content and content above the limits, or as much as --free says.',
  flags: {
    free: {
      type: 'text',
      value: 'SIZE',
      description: 'evict this much, such as 20GiB, least recently used first',
    },
    'dry-run': { type: 'boolean', description: 'evict nothing, and print what would be evicted' },
  },
  examples: [
    ['gc', 'evict what the limits ask for'],
    ['gc --free 20GiB', 'make room'],
  ],
  run,
})

async function run({ words, connection, isJson, print }: AdminCall): Promise<ExitCode> {
  requireNoWords(words)
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
