import type { VerifyLine } from '../../admin/contract.ts'
import { countText, sizeText } from '../../lib/words/amounts.ts'
import { EXIT, type ExitCode } from '../environment.ts'
import { type AdminCall, adminTool } from './command.ts'
import { requireNoWords } from './images.ts'
import { LiveLines } from './live-lines.ts'
import { Pace } from './pace.ts'
import { barText } from './text.ts'

/** `entrepot verify`: verifies all stored content. */
export const verify = adminTool({
  usage: '[options]',
  description:
    'Verify everything in the cache against its digest now. Damaged content is put aside, and fetched again on the\nnext request for it. Exit code 1 if anything was damaged or unreadable.',
  examples: [['verify', 'read everything, and put damaged content aside']],
  run,
})

async function run({ words, connection, environment, isJson, print }: AdminCall): Promise<ExitCode> {
  requireNoWords(words)
  const live = new LiveLines(environment.stdout)
  const pace = new Pace()
  let last: VerifyLine | undefined
  for await (const progress of connection.follow('POST verify')) {
    last = progress
    if (isJson) print(JSON.stringify(progress))
    else live.show([line(progress, pace)])
  }
  live.end()
  const bad = (last?.damaged ?? 0) + (last?.unreadable ?? 0)
  if (!isJson && last !== undefined) {
    const { objects, bytes, damaged, unreadable } = last
    print(
      `verified ${countText(objects, 'object')}, ${sizeText(bytes)}: ${damaged} damaged, ${unreadable} unreadable`,
    )
  }
  return bad === 0 ? EXIT.ok : EXIT.failure
}

function line({ objects, totalObjects, bytes, totalBytes, damaged }: VerifyLine, pace: Pace): string {
  const part = totalBytes === 0 ? 1 : bytes / totalBytes
  const found = damaged === 0 ? '' : `  ${damaged} damaged`
  return `${barText(part, 30)} ${Math.floor(part * 100)} %  ${objects} of ${totalObjects}  ${sizeText(bytes)}  ${pace.describe(bytes, totalBytes)}${found}`
}
