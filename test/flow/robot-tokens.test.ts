import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { CreatedToken, ExplainedAccess, TokenReport } from '../../src/admin/contract.ts'
import { Secret } from '../../src/config/secret.ts'
import { openAdmin } from '../support/admin-request.ts'
import { type MirrorOptions, startMirror, type TestMirror } from '../support/mirror.ts'
import { sectionsOf } from '../support/sections.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'

const RULES = `
auth: {groups: {bots: ['robot:*']}}
rules:
- {who: everyone, names: team/forbidden, may_not: pull, reason: it is closed}
- {who: 'robot:reader', names: team/private, may: pull}
- {who: everyone, names: team/private, may_not: pull}
`

async function start(upstream: FakeUpstream, options: Partial<MirrorOptions> = {}): Promise<TestMirror> {
  const image = upstream.putImage({ layers: [Buffer.alloc(3000)] })
  for (const name of ['team/private', 'team/public', 'team/forbidden'])
    upstream.tag(name, 'v1', image.manifest)
  const sections = sectionsOf(RULES)
  return await startMirror({
    upstream: upstream.host,
    ...options,
    config: { workers: 2, sections, ...options.config },
  })
}

async function create(mirror: TestMirror, query: string): Promise<CreatedToken> {
  const { status, body } = await mirror.admin('POST', `/_admin/v1/tokens?${query}`)
  assert.equal(status, 200, body.toString())
  return JSON.parse(body.toString()) as CreatedToken
}

async function list(mirror: TestMirror): Promise<readonly TokenReport[]> {
  const { body } = await mirror.admin('GET', '/_admin/v1/tokens')
  return (JSON.parse(body.toString()) as { readonly tokens: readonly TokenReport[] }).tokens
}

/** Statuses of pulls on several connections, so that every thread is asked. */
async function pulls(mirror: TestMirror, name: string, token: string): Promise<readonly number[]> {
  const headers = { authorization: `Bearer ${token}`, connection: 'close' }
  const all = Array.from({ length: 8 }, async () => await mirror.get(`/v2/${name}/manifests/v1`, headers))
  return [...new Set((await Promise.all(all)).map(({ status }) => status))]
}

test('a robot token works in every thread until it is revoked, and only its hash is kept', async () => {
  await using upstream = await startUpstream()
  await using mirror = await start(upstream)
  const { token, ...report } = await create(mirror, 'for=reader&may=push:acme/**&days=90')
  assert.deepEqual(report.may, ['pull:docker.io/acme/**', 'push:docker.io/acme/**'])
  assert.equal(report.name, 'robot:reader')
  assert.deepEqual(await pulls(mirror, 'team/private', token), [200])
  assert.deepEqual(await pulls(mirror, 'team/forbidden', token), [403])
  const [listed] = await list(mirror)
  assert.equal(listed?.id, report.id)
  assert.ok(listed?.lastUsedAt !== undefined)
  assert.ok(!JSON.stringify(listed).includes(token))
  for (const kind of ['robots', 'robots-copy']) {
    const record = join(mirror.root, 'decisions', kind, report.id)
    assert.ok(!(await readFile(record, 'utf8')).includes(token.slice(9)))
  }
  const revoked = await mirror.admin('DELETE', `/_admin/v1/tokens?token=${report.id}`)
  assert.equal(revoked.status, 200)
  assert.deepEqual(await pulls(mirror, 'team/private', token), [401])
  assert.deepEqual(await pulls(mirror, 'team/public', token), [401])
  assert.deepEqual(await list(mirror), [])
  assert.ok(!JSON.stringify(mirror.log).includes(token))
})

test('robots outlive a restart, and a damaged record of them is restored from its copy', async () => {
  await using upstream = await startUpstream()
  await using mirror = await start(upstream)
  const { token, id } = await create(mirror, 'for=reader&may=pull:team/private')
  await mirror.daemon.stop()
  await writeFile(join(mirror.root, 'decisions', 'robots', id), 'damaged')
  await using again = await start(upstream, { root: mirror.root })
  assert.deepEqual(await pulls(again, 'team/private', token), [200])
})

for (const [query, part] of [
  ['may=pull:a.io/b', 'for must be'],
  ['for=CI&may=pull:a.io/b', 'for must be'],
  ['for=ci', 'may is missing'],
  ['for=ci&may=fly:a.io/b', 'may must be'],
  ['for=ci&may=pull:..', 'may must be'],
  ['for=ci&may=admin:a.io/b', 'may must be'],
  ['for=ci&may=pull:a.io/b&days=0', 'days must be'],
  ['for=ci&may=pull:a.io/b&days=9999', 'days must be'],
] as const) {
  test(`no token is created by ${query}`, async () => {
    await using upstream = await startUpstream()
    await using mirror = await start(upstream, { config: { workers: 1 } })
    const { status, body } = await mirror.admin('POST', `/_admin/v1/tokens?${query}`)
    assert.equal(status, 400)
    assert.ok(body.toString().includes(part), body.toString())
    assert.deepEqual(await list(mirror), [])
  })
}

test('an explanation says what an identity may do to an image, and which row says so', async () => {
  await using upstream = await startUpstream()
  await using mirror = await start(upstream)
  await create(mirror, 'for=ci&may=push:team/private')
  const explain = async (image: string, as: string): Promise<ExplainedAccess> => {
    const { body } = await mirror.admin('GET', `/_admin/v1/explain?image=${image}&as=${as}`)
    return (JSON.parse(body.toString()) as { readonly access: ExplainedAccess }).access
  }
  assert.deepEqual(await explain('team/private:v1', 'alice'), {
    as: 'alice',
    groups: [],
    decisions: [
      { right: 'pull', isAllowed: false, row: 'line 6' },
      { right: 'push', isAllowed: false, row: 'default' },
      { right: 'delete', isAllowed: false, row: 'default' },
    ],
  })
  const robot = await explain('team/private:v1', 'robot:ci')
  assert.deepEqual(robot.groups, ['bots'])
  assert.deepEqual(robot.decisions[1], { right: 'push', isAllowed: true, row: 'token' })
  const closed = await explain('team/forbidden:v1', 'anonymous')
  assert.deepEqual(closed.decisions[0], {
    right: 'pull',
    isAllowed: false,
    row: 'line 4',
    reason: 'it is closed',
  })
})

test('a robot with the right admin administers beside the token, and no other robot does', async () => {
  await using upstream = await startUpstream()
  const adminToken = new Secret('the-token-of-administrators')
  await using mirror = await start(upstream, { config: { adminToken } })
  const ask = async (
    method: string,
    path: string,
    token?: string,
  ): Promise<{ status: number; text: string }> =>
    await openAdmin(mirror, { method, path: `/_admin/v1/${path}`, token })
  assert.equal((await ask('GET', 'tokens')).status, 401)
  const make = async (query: string): Promise<string> => {
    const { status, text } = await ask('POST', `tokens?${query}`, adminToken.reveal())
    assert.equal(status, 200, text)
    return (JSON.parse(text) as CreatedToken).token
  }
  const [ops, ci] = [await make('for=ops&may=admin'), await make('for=ci&may=push:team/**')]
  const listed = await ask('GET', 'tokens', ops)
  assert.equal(listed.status, 200)
  assert.match(listed.text, /"createdBy":"administrator"/)
  assert.equal((await ask('GET', 'tokens', ci)).status, 403)
  assert.equal((await ask('DELETE', 'tokens?token=ops', ops)).status, 200)
  assert.equal((await ask('GET', 'tokens', ops)).status, 401)
})

test('rules and grants mean a hosted registry of one label from the first start on', async () => {
  await using upstream = await startUpstream()
  const hosted = `
hosted: [{names: internal/**}]
rules: [{who: everyone, names: internal/secret/**, may_not: pull}]
`
  await using mirror = await startMirror({
    upstream: upstream.host,
    config: { sections: sectionsOf(hosted) },
  })
  assert.equal((await mirror.get('/v2/internal/secret/app/manifests/v1')).status, 401)
  assert.equal((await mirror.get('/v2/internal/open/app/manifests/v1')).status, 404)
  const { may } = await create(mirror, 'for=ci&may=push:internal/**')
  assert.deepEqual(may, ['pull:internal/**', 'push:internal/**'])
})
