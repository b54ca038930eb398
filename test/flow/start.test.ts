import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Secret } from '../../src/config/secret.ts'
import { version } from '../../src/lib/package.ts'
import { runCommandLine } from '../cli/rig.ts'
import { startMirror } from '../support/mirror.ts'
import { startUpstream } from '../support/upstream.ts'

const credentials = { kind: 'password', username: 'robot', password: new Secret('hunter2') } as const

test('an open mirror with credentials starts, and warns of who can pull what in a line of its log', async () => {
  await using upstream = await startUpstream()
  for (const host of ['0.0.0.0', '127.0.0.1']) {
    await using mirror = await startMirror({
      upstream: upstream.host,
      entry: { credentials },
      config: { listen: { kind: 'tcp', host, port: 0 } },
    })
    const warnings = mirror.log.filter(line => line['level'] === 'warn').map(line => String(line['msg']))
    if (host === '127.0.0.1') assert.deepEqual(warnings, [])
    else
      assert.match(
        warnings.join('\n'),
        /^OPEN MIRROR WITH CREDENTIALS: .+ can pull .+ \(docker\.io\); to tighten: /,
      )
  }
})

test('an open mirror with credentials warns on standard error too, when it starts and when it is checked', async () => {
  const env = { UPSTREAM_CREDENTIALS: '{"docker.io": {"username": "u", "password": "p"}}' }
  for (const argv of [[], ['check']]) {
    const { code, stderr } = await runCommandLine(argv, { env })
    assert.equal(code, 0)
    assert.match(stderr, /^entrepot: WARNING: OPEN MIRROR WITH CREDENTIALS: /m)
  }
})

test('upstreams are told which program asks, and in which version', async () => {
  await using upstream = await startUpstream()
  await using mirror = await startMirror({ upstream: upstream.host })
  await mirror.get('/v2/team/app/manifests/1')
  assert.equal(upstream.requests[0]?.headers['user-agent'], `entrepot/${version()}`)
})

test('the log says where a start took its time', async () => {
  await using upstream = await startUpstream()
  await using mirror = await startMirror({ upstream: upstream.host })
  const line = mirror.log.find(({ msg }) => msg === 'listening')
  const took = line?.['took'] as Record<string, number> | undefined
  assert.deepEqual(Object.keys(took ?? {}), ['loadMs', 'openMs', 'listenMs'])
  assert.ok(Object.values(took ?? {}).every(Number.isInteger))
})
