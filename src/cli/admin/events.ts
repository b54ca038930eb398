import { ConfigError, flagProblem } from '../../config/problem.ts'
import { agoText } from '../../lib/words/amounts.ts'
import { EXIT, type ExitCode } from '../environment.ts'
import { type AdminCall, adminTool } from './command.ts'
import { tableText } from './text.ts'

const DEFAULT_LIMIT = '20'

/** `entrepot events ls|replay`: lists notifications, or sends them again. */
export const events = adminTool({
  usage: 'ls | replay [options]',
  description:
    'List the notifications of the last days with their state, or send them again, which also enables an endpoint that answered 410.',
  flags: {
    limit: { type: 'text', value: 'COUNT', description: `ls: this many, ${DEFAULT_LIMIT} by default` },
    endpoint: { type: 'text', value: 'NAME', description: 'replay: only to this endpoint' },
    id: { type: 'text', value: 'ID', description: 'replay: only this notification' },
    since: {
      type: 'text',
      value: 'TIME',
      description: 'replay: only those since a time such as 2026-11-21T03:00Z',
    },
  },
  examples: [
    ['events ls', 'what endpoints were told lately'],
    ['events replay --endpoint ci --since 2026-11-21T03:00Z', 'tell one of them again'],
  ],
  completes: ['ls', 'replay'],
  run: async call => {
    const [verb = '', ...more] = call.words.words
    if (more.length === 0 && verb === 'ls') return await list(call)
    if (more.length === 0 && verb === 'replay') return await replay(call)
    throw new ConfigError([
      { origin: { kind: 'command-line' }, path: 'events', message: 'needs ls or replay', hint: undefined },
    ])
  },
})

async function list({ words, connection, isJson, print }: AdminCall): Promise<ExitCode> {
  refuseFlags(words, ['endpoint', 'id', 'since'], 'ls')
  const { events: listed, endpoints } = await connection.ask('GET events', {
    limit: words.text('limit') ?? DEFAULT_LIMIT,
  })
  if (isJson) {
    for (const event of listed) print(JSON.stringify(event))
    return EXIT.ok
  }
  if (endpoints.length === 0) print('nobody is notified: the upstream file has no notifications')
  if (listed.length > 0) {
    const rows = listed.map(({ at, type, subject = '-', deliveries, id }) => [
      agoText(at, Date.now()),
      type,
      subject,
      deliveries.map(({ endpoint, state, attempts }) => `${endpoint} ${state}${tries(attempts)}`).join(', '),
      id,
    ])
    print(tableText([['WHEN', 'TYPE', 'SUBJECT', 'STATE', 'ID'], ...rows]))
  }
  for (const { endpoint, pending, isDisabled } of endpoints) {
    if (isDisabled)
      print(
        `${endpoint} answered 410 and gets nothing; ${pending} wait: entrepot events replay --endpoint ${endpoint}`,
      )
    else if (pending > 0) print(`${pending} wait for ${endpoint}`)
  }
  return EXIT.ok
}

function tries(attempts: number): string {
  return attempts > 1 ? ` (${attempts} attempts)` : ''
}

async function replay({ words, connection, isJson, print }: AdminCall): Promise<ExitCode> {
  refuseFlags(words, ['limit'], 'replay')
  const answer = await connection.ask('POST events', {
    endpoint: words.text('endpoint'),
    id: words.text('id'),
    since: words.text('since'),
  })
  print(isJson ? JSON.stringify(answer) : `${answer.deliveries} deliveries are due again`)
  return EXIT.ok
}

function refuseFlags(words: AdminCall['words'], flags: readonly string[], verb: string): void {
  const problems = flags
    .filter(flag => words.text(flag) !== undefined)
    .map(flag => flagProblem(flag, `is not a flag of events ${verb}`, undefined))
  if (problems.length > 0) throw new ConfigError(problems)
}
