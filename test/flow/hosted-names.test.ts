import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { digestOf } from '../../src/oci/digest.ts'
import { type HostedMirror, sectionsOf, startHosted } from '../support/hosted.ts'
import { startMirror } from '../support/mirror.ts'
import { startUpstream } from '../support/upstream.ts'
import { errorMessage, linesOf, until } from '../support/waiting.ts'

/** Everything that tried to leave the daemon: bytes on connections, and names that were looked up. */
interface Outside extends AsyncDisposable {
  readonly address: string
  readonly received: () => string
  readonly lookedUp: string[]
}

/** A registry that answers 404 to everything, and keeps every byte that it is sent. */
async function listenOutside(): Promise<Outside> {
  const pieces: Buffer[] = []
  const sockets = new Set<Socket>()
  const server = createServer(socket => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    socket.on('error', () => undefined)
    socket.on('data', (piece: Buffer) => {
      pieces.push(piece)
      socket.write('HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}')
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  return {
    address: `127.0.0.1:${port}`,
    received: () => Buffer.concat(pieces).toString('latin1'),
    lookedUp: [],
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise(resolve => server.close(resolve))
    },
  }
}

async function startWatched(
  outside: Outside,
  claims: Readonly<Record<string, string | undefined>>,
): Promise<HostedMirror> {
  return await startHosted({
    claims,
    upstream: outside.address,
    overrides: {
      upstream: {
        resolve: async name => {
          outside.lookedUp.push(name)
          throw Object.assign(new Error(`there is no ${name}`), { code: 'ENOTFOUND' })
        },
      },
    },
  })
}

const DIGEST = digestOf(Buffer.from('secret'))

const RESOURCES = [
  'manifests/latest',
  `manifests/${DIGEST}`,
  `blobs/${DIGEST}`,
  `blobs/${DIGEST.replace(':', '%3A')}`,
  'tags/list',
  'tags/list?n=1&last=a',
  `referrers/${DIGEST}`,
] as const

/** Ways to name a repository of a claimed namespace at some entrance of the daemon. */
const spellings = (repository: string): readonly (readonly [string, string])[] => [
  [`/v2/registry.example.com/${repository}/`, ''],
  [`/v2/${repository}/`, 'ns=registry.example.com'],
  [`/v2/${repository}/`, 'ns=REGISTRY.example.com'],
  [`/v2/${repository}/`, 'ns=registry.example.com:443'],
  [`/v2/${repository}/`, 'ns=registry.example.com.'],
  [`/registry.example.com/v2/${repository}/`, ''],
  [`/v2/Registry.Example.com/${repository}/`, ''],
  [`/v2/registry.example.com./${repository}/`, ''],
  [`/v2/registry.example.com:443/${repository}/`, ''],
  [`/v2/acme/${repository}/`, ''],
  [`/v2/acme/${repository}/`, 'ns=docker.io'],
  [`/v2/acme/${repository}/`, 'ns=index.docker.io'],
  [`/v2/docker.io/acme/${repository}/`, ''],
  [`/v2/registry-1.docker.io/acme/${repository}/`, ''],
  [`/docker.io/v2/acme/${repository}/`, ''],
  [`http://evil.example/v2/acme/${repository}/`, ''],
  [`/v2/%61cme/${repository}/`, ''],
]

const component = fc.stringMatching(/^[a-z0-9]{1,6}$/)
const requests = fc.record({
  repository: fc.array(component, { minLength: 1, maxLength: 3 }).map(parts => `secret${parts.join('/')}`),
  resource: fc.constantFrom(...RESOURCES),
  spelling: fc.nat({ max: spellings('x').length - 1 }),
  method: fc.constantFrom('GET', 'HEAD'),
  fresh: fc.boolean(),
})

test('no request and no byte of a claimed name leaves the process, however it is spelled', async () => {
  await using outside = await listenOutside()
  await using hosted = await startWatched(outside, {
    'registry.example.com/**': undefined,
    'docker.io/acme/**': undefined,
  })
  const statuses = new Set<number>()
  await fc.assert(
    fc.asyncProperty(requests, async ({ repository, resource, spelling, method, fresh }) => {
      const [path = '', query = ''] = spellings(repository)[spelling] ?? []
      const target = `${path}${resource}${query === '' ? '' : `${resource.includes('?') ? '&' : '?'}${query}`}`
      const headers: Record<string, string> = fresh ? { 'cache-control': 'no-cache' } : {}
      statuses.add((await hosted.send(method, target, { headers })).status)
    }),
    { numRuns: 400 },
  )
  assert.equal(outside.received(), '')
  assert.deepEqual(outside.lookedUp, [])
  assert.ok(statuses.has(404), 'claimed names are answered')
  // The recorder records: a name that is not claimed does leave.
  await hosted.send('GET', '/v2/library/alpine/manifests/latest')
  assert.match(outside.received(), /library\/alpine/)
})

test('a claimed name is not warmed from its registry, neither by an administrator nor by schedule', async () => {
  await using outside = await listenOutside()
  const claims = { 'docker.io/acme/**': undefined }
  const plan = { patterns: ['*'], semver: undefined, newest: undefined, platforms: [], intervalMs: 3_600_000 }
  const warm = [{ ...plan, image: 'docker.io/acme/app' }]
  await using hosted = await startHosted({
    upstream: outside.address,
    config: { sections: { ...sectionsOf(claims), warm } },
  })
  const reply = await hosted.admin('POST', '/_admin/v1/warm?image=docker.io/acme/app:v1')
  assert.equal(reply.status, 405)
  assert.match(errorMessage(reply), /^docker\.io\/acme\/app is hosted here: it has no upstream to pull from$/)
  await until(async () => {
    const { body } = await hosted.admin('GET', '/_admin/v1/status')
    const { warming } = JSON.parse(body.toString()) as { warming: readonly { message?: string }[] }
    return warming[0]?.message === errorMessage(reply)
  }, 'the plan has failed')
  assert.equal(outside.received(), '')
})

test('a name that is claimed with a fallback is mirrored until its first push, and closed for ever after', async () => {
  await using outside = await listenOutside()
  await using hosted = await startWatched(outside, { 'registry.example.com/**': 'docker.io' })
  const asked = (): number => outside.received().split('team/fork').length - 1
  assert.equal((await hosted.send('GET', '/v2/registry.example.com/team/fork/manifests/v1')).status, 404)
  const before = asked()
  assert.ok(before > 0, 'the fallback is asked for a repository that never had a push')
  // A client that pushes asks whether it must upload: only what is hosted may save it that.
  const name = '/v2/registry.example.com/team/fork'
  assert.equal((await hosted.send('HEAD', `${name}/blobs/${DIGEST}`)).status, 404)
  assert.equal(asked(), before)
  const post = await hosted.send('POST', `${name}/blobs/uploads/?digest=${DIGEST}`, {
    body: Buffer.from('secret'),
  })
  assert.equal(post.status, 201)
  for (const resource of RESOURCES) await hosted.send('GET', `${name}/${resource}`)
  await hosted.restart()
  for (const resource of RESOURCES) await hosted.send('GET', `${name}/${resource}`)
  await hosted.send('DELETE', `${name}/blobs/${DIGEST}`)
  assert.equal((await hosted.send('GET', `${name}/blobs/${DIGEST}`)).status, 404)
  assert.equal(asked(), before)
})

test('of several claims on a name, the longest pattern decides', async () => {
  await using outside = await listenOutside()
  await using hosted = await startWatched(outside, {
    'docker.io/**': 'docker.io',
    'docker.io/acme/**': undefined,
  })
  await hosted.send('GET', '/v2/acme/app/manifests/v1')
  assert.doesNotMatch(outside.received(), /acme/)
  await hosted.send('GET', '/v2/other/app/manifests/v1')
  assert.match(outside.received(), /other\/app/)
})

test('explain says which claim a name falls to, which other would have had it, and what a pull gets', async () => {
  await using outside = await listenOutside()
  await using hosted = await startWatched(outside, {
    'registry.example.com/**': 'docker.io',
    'registry.example.com/team/**': undefined,
  })
  const claimOf = async (image: string): Promise<unknown> => {
    const { body } = await hosted.admin('GET', `/_admin/v1/explain?image=${image}`)
    const { claim, nextPull } = JSON.parse(body.toString()) as {
      claim?: { names: string; others: string[]; isClosed: boolean; isHere: boolean }
      nextPull: { outcome: string }
    }
    return claim && [claim.names, claim.others.join(), claim.isClosed, claim.isHere, nextPull.outcome]
  }
  const [wide, narrow] = ['registry.example.com/**', 'registry.example.com/team/**']
  assert.deepEqual(await claimOf('registry.example.com/team/app:1'), [narrow, wide, true, false, 'failure'])
  assert.deepEqual(await claimOf('registry.example.com/fork:1'), [wide, '', false, false, 'miss'])
  assert.equal(await claimOf('docker.io/library/alpine:1'), undefined)
})

test('a start logs the cached repositories that a claim closes, and no others', async t => {
  const root = await mkdtemp(join(tmpdir(), 'entrepot-closed-'))
  t.after(async () => await rm(root, { recursive: true }))
  await using upstream = await startUpstream()
  const { manifest } = upstream.putImage({ layers: [] })
  for (const name of ['acme/app', 'library/alpine']) upstream.tag(name, 'v1', manifest)
  {
    await using mirror = await startMirror({ upstream: upstream.host, root })
    for (const name of ['acme/app', 'library/alpine'])
      assert.equal((await mirror.get(`/v2/${name}/manifests/v1?ns=docker.io`)).status, 200)
  }
  const config = { sections: sectionsOf({ 'docker.io/acme/**': undefined }) }
  await using mirror = await startMirror({ upstream: upstream.host, root, config })
  const text = 'a claim of hosted names closes cached repositories: nobody can pull them any more'
  await until(() => linesOf(mirror, text).length > 0, 'the line')
  const [line] = linesOf(mirror, text)
  assert.deepEqual([line?.['count'], line?.['repositories']], [1, ['docker.io/acme/app']])
})
