import { ConfigError, wordProblem } from '../../config/problem.ts'
import { countText } from '../../lib/words/amounts.ts'
import type { ExitCode } from '../environment.ts'
import { type AdminCall, adminTool, forEachWord } from './command.ts'

const HINT = 'the first digits of its digest, as entrepot status prints them'

/** `entrepot cancel <digest>…`: ends running downloads. */
export const cancel = adminTool({
  usage: '<digest>… [options]',
  description:
    'Cancel downloads that are running now, named by their digests as entrepot status prints them. Clients that\nwait for one are disconnected; what has arrived is kept, and the next request resumes there.',
  examples: [['cancel 3f2a90c1d2e4', 'a download as status shows it']],
  run,
})

async function run(call: AdminCall): Promise<ExitCode> {
  const { words, connection, isJson, print } = call
  const problems = words.words
    .filter(word => !/^(?:sha(?:256|512):)?[0-9a-f]{4,128}$/.test(word))
    .map(word => wordProblem(word, 'is not the digest of a download', HINT))
  if (words.words.length === 0) problems.push(wordProblem('', 'a download is missing', HINT))
  if (problems.length > 0) throw new ConfigError(problems)
  return await forEachWord(call, words.words, async word => {
    const answer = await connection.ask('DELETE flows', { digest: word })
    const { digest, cancelled } = answer
    print(isJson ? JSON.stringify(answer) : `cancelled ${countText(cancelled, 'download')} of ${digest}`)
  })
}
