import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startMirror } from '../support/mirror.ts'

const OFF = '127.0.0.1:9'

test('a running mirror serves scripts for the address by which it was asked', async () => {
  await using mirror = await startMirror({ upstream: OFF, config: { servesSetup: true } })
  const host = 'mirror.example.com:8080'
  const list = await mirror.get('/setup/', { host })
  assert.equal(list.status, 200)
  assert.match(
    String(list.body),
    /curl -fsS http:\/\/mirror\.example\.com:8080\/setup\/containerd\.sh \| sudo sh/,
  )
  for (const client of ['containerd', 'docker', 'podman', 'crio']) {
    const script = await mirror.get(`/setup/${client}.sh`, { host })
    assert.equal(script.status, 200)
    assert.equal(script.headers['cache-control'], 'no-store')
    assert.match(String(script.body), /^#!\/bin\/sh\n.*\nmirror='http:\/\/mirror\.example\.com:8080'\n/s)
  }
  const head = await mirror.head('/setup/docker.sh', { host })
  assert.equal(head.status, 200)
  assert.ok(Number(head.headers['content-length']) > 1000)
  assert.equal((await mirror.get('/setup/emacs.sh', { host })).status, 404)
})

test('what a client puts into Host gets into a script only if it is a host', async () => {
  await using mirror = await startMirror({ upstream: OFF, config: { servesSetup: true } })
  for (const host of ["x';id;'", 'x$(id)', 'a b', 'x/y']) {
    const reply = await mirror.get('/setup/docker.sh', { host })
    assert.equal(reply.status, 400, host)
  }
})

test('with the scripts switched off there is nothing at /setup/', async () => {
  await using mirror = await startMirror({ upstream: OFF, config: { servesSetup: false } })
  assert.equal((await mirror.get('/setup/', { host: 'mirror' })).status, 404)
  assert.equal((await mirror.get('/setup/docker.sh', { host: 'mirror' })).status, 404)
})
