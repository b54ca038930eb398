import type { ClientReport } from '../../admin/contract.ts'
import { agoText } from '../../lib/words/amounts.ts'
import { EXIT, type ExitCode } from '../environment.ts'
import { type AdminCall, adminTool } from './command.ts'
import { requireNoWords } from './images.ts'
import { tableText } from './text.ts'

/** `entrepot who`: the clients that pulled recently. */
export const who = adminTool({
  usage: '[options]',
  description:
    'Show which clients have pulled through the mirror, the latest first, and from which registries.',
  flags: {
    'no-trunc': { type: 'boolean', description: 'print complete user agents, and all registries' },
  },
  examples: [['who', 'who pulled last, and with what']],
  run,
})

async function run({ words, connection, isJson, print, paint }: AdminCall): Promise<ExitCode> {
  requireNoWords(words)
  const { clients } = await connection.ask('GET clients')
  if (isJson) for (const client of clients) print(JSON.stringify(client))
  else if (clients.length === 0) print('nobody has pulled since the mirror started')
  else {
    const heading = ['CLIENT', 'LAST SEEN', 'REQUESTS', 'LAST STATUS', 'REGISTRIES', 'USER AGENT']
    const rows = clients.map(client => row(client, Date.now(), words.isOn('no-trunc')))
    print(tableText([heading.map(text => paint('heading', text)), ...rows], new Set([2])))
  }
  return EXIT.ok
}

const REGISTRIES_SHOWN = 3
const AGENT_SHOWN = 40

function row(client: ClientReport, nowMs: number, isWhole: boolean): string[] {
  const { address, userAgent, requests, namespaces, lastSeen, lastStatus } = client
  const shown = isWhole ? namespaces : namespaces.slice(0, REGISTRIES_SHOWN)
  const more = namespaces.length - shown.length
  const registries = `${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}`
  const agent = isWhole || userAgent.length <= AGENT_SHOWN ? userAgent : `${userAgent.slice(0, AGENT_SHOWN)}…`
  return [address, agoText(lastSeen, nowMs), String(requests), String(lastStatus), registries, agent]
}
