import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { inspect } from 'node:util'
import type { Config } from '../../../src/config/config.ts'
import { loadConfig } from '../../../src/config/load.ts'
import { ConfigError, formatProblem } from '../../../src/config/problem.ts'
import type { Flag } from '../../../src/config/settings.ts'

const SECRET = '0123456789abcdef0123456789abcdef'
let directory = ''

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'entrepot-peers-'))
  await writeFile(join(directory, 'secret'), `${SECRET}\n`)
  await writeFile(join(directory, 'short'), 'short')
})
after(async () => await rm(directory, { recursive: true }))

async function load(flags: Partial<Record<Flag, string>>): Promise<Config['peers'] | readonly string[]> {
  try {
    const given = new Map(Object.entries(flags) as [Flag, string][])
    return (await loadConfig({ flags: given, env: {}, store: undefined, cwd: directory, problems: [] }))
      .config.peers
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    return error.problems.map(formatProblem)
  }
}

const GOOD = {
  'peer-listen': '0.0.0.0:8082',
  peers: 'one:8082,[::1]:8083',
  'peer-secret-file': 'secret',
} as const

test('replicas are read with their addresses, and the secret is never printed', async () => {
  const peers = await load(GOOD)
  assert.ok(peers !== undefined && !Array.isArray(peers))
  assert.ok(!inspect(peers, { depth: 9 }).includes(SECRET) && !JSON.stringify(peers).includes(SECRET))
  const { secret, ...rest } = peers as NonNullable<Config['peers']>
  assert.equal(secret.reveal(), SECRET)
  assert.deepEqual(rest, {
    listen: { kind: 'tcp', host: '0.0.0.0', port: 8082 },
    members: {
      kind: 'list',
      addresses: [
        { host: 'one', port: 8082 },
        { host: '::1', port: 8083 },
      ],
    },
    secretFile: join(directory, 'secret'),
    cluster: 'entrepot',
  })
})

for (const [what, flags, problem] of [
  [
    'no secret',
    { 'peer-secret-file': undefined },
    /anyone there could read every cached image \(give --peer-secret-file too\)/,
  ],
  ['a secret that is too short', { 'peer-secret-file': 'short' }, /without a secret.*at least 16 characters/],
  ['a file that does not exist', { 'peer-secret-file': 'nowhere' }, /cannot be read: ENOENT/],
  [
    'no members',
    { peers: undefined },
    /needs the addresses of the replicas \(give --peers or --peers-dns too\)/,
  ],
  ['a list and a name', { 'peers-dns': 'all:8082' }, /contradicts --peers/],
  ['a member without a port', { peers: 'one' }, /is not a list of addresses/],
  [
    'a list that is too long',
    { peers: Array.from({ length: 10_001 }, (_, at) => `m${at}:1`).join(',') },
    /10001 replicas/,
  ],
  ['no address to listen at', { 'peer-listen': undefined }, /is given without --peer-listen/],
  ['a name of the cluster with a space', { 'peer-cluster': 'a b' }, /is not a name/],
] as const) {
  test(`${what} is a problem, in one sentence`, async () => {
    const given = Object.fromEntries(
      Object.entries({ ...GOOD, ...flags }).filter(([, text]) => text !== undefined),
    )
    const problems = await load(given)
    assert.ok(Array.isArray(problems))
    assert.match(problems.join('\n'), problem)
    assert.ok(!problems.join('\n').includes(SECRET))
  })
}
