import type { TokenReport } from '../../admin/contract.ts'
import { ConfigError, flagProblem } from '../../config/problem.ts'
import { agoText } from '../../lib/words/amounts.ts'
import { EXIT, type ExitCode } from '../environment.ts'
import { type AdminCall, adminTool, forEachWord } from './command.ts'
import { tableText } from './text.ts'

/** `entrepot token create|ls|revoke`: tokens for programs. */
export const token = adminTool({
  usage: 'create|ls|revoke [ID]… [options]',
  description: 'Create tokens for programs, list them, and revoke them. A token is shown once.',
  flags: {
    for: { type: 'text', value: 'NAME', description: 'create: name of the robot, robot:NAME in rules' },
    may: {
      type: 'list',
      value: 'RIGHT',
      description: 'create: a right, such as pull:acme/app, push:acme/**, delete:acme/** or admin',
    },
    days: { type: 'text', value: 'DAYS', description: 'create: life of the token [no end]' },
  },
  examples: [
    ["token create --for ci --may 'push:acme/**' --days 90", 'a token for a pipeline'],
    ['token ls', 'all tokens, and when they were last used'],
    ['token revoke ci', 'end all tokens of a robot'],
  ],
  completes: ['create', 'ls', 'revoke'],
  run: async call => {
    const [verb, ...words] = call.words.words
    if (verb === 'create' && words.length === 0) return await create(call)
    if (verb === 'ls' && words.length === 0) return await list(call)
    if (verb === 'revoke' && words.length > 0) return await revoke(call, words)
    throw new ConfigError([
      {
        origin: { kind: 'command-line' },
        path: 'token',
        message: 'needs create, ls, or revoke and an ID',
        hint: undefined,
      },
    ])
  },
})

async function create({ words, connection, isJson, print, environment }: AdminCall): Promise<ExitCode> {
  const name = words.text('for')
  const may = words.list('may')
  if (name === undefined || may.length === 0)
    throw new ConfigError([flagProblem(name === undefined ? 'for' : 'may', 'is missing', 'see --help')])
  const answer = await connection.ask('POST tokens', { for: name, may, days: words.text('days') })
  if (isJson) print(JSON.stringify(answer))
  else {
    // The token alone is on standard output, so that it can go into a file or a secret.
    print(answer.token)
    const end = answer.expiresAt === undefined ? 'without an end' : `until ${answer.expiresAt.slice(0, 10)}`
    environment.stderr.write(
      `${answer.name} (${answer.id}) may ${answer.may.join(', ')}, ${end}. The token is not shown again.\n`,
    )
  }
  return EXIT.ok
}

async function list({ connection, isJson, print }: AdminCall): Promise<ExitCode> {
  const { tokens } = await connection.ask('GET tokens')
  if (isJson) for (const entry of tokens) print(JSON.stringify(entry))
  else if (tokens.length === 0) print('there are no tokens')
  else print(tableText([['ID', 'ROBOT', 'MAY', 'CREATED', 'LAST USED', 'EXPIRES'], ...tokens.map(rowOf)]))
  return EXIT.ok
}

function rowOf({ id, name, may, createdAt, createdBy, lastUsedAt, expiresAt }: TokenReport): string[] {
  const nowMs = Date.now()
  return [
    id,
    name,
    may.join(', '),
    `${agoText(createdAt, nowMs)} by ${createdBy}`,
    lastUsedAt === undefined ? 'never' : agoText(lastUsedAt, nowMs),
    expiresAt === undefined ? 'never' : expiresAt.slice(0, 10),
  ]
}

async function revoke(call: AdminCall, ids: readonly string[]): Promise<ExitCode> {
  const { connection, isJson, print } = call
  return await forEachWord(call, ids, async id => {
    const answer = await connection.ask('DELETE tokens', { token: id })
    if (isJson) print(JSON.stringify(answer))
    else for (const { id: ended, name } of answer.revoked) print(`revoked ${ended} of ${name}`)
  })
}
