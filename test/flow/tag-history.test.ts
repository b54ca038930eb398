import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Digest } from '../../src/oci/digest.ts'
import { startMirror, type TestMirror } from '../support/mirror.ts'
import { startUpstream } from '../support/upstream.ts'

const ANEW = { 'Cache-Control': 'no-cache' }
const PATH = '/v2/library/a/manifests/latest'

async function ask<T>(mirror: TestMirror, method: string, path: string): Promise<T> {
  const reply = await mirror.admin(method, `/_admin/v1/${path}`)
  assert.equal(reply.status, 200, reply.body.toString())
  return JSON.parse(reply.body.toString()) as T
}

interface Report {
  readonly digest?: string
  readonly heldBy?: string
  readonly moves: readonly { readonly digest?: string; readonly by: string }[]
}

async function served(mirror: TestMirror, headers: Record<string, string> = {}): Promise<unknown> {
  const reply = await mirror.get(PATH, headers)
  assert.equal(reply.status, 200)
  return reply.headers['docker-content-digest']
}

test('a mirrored tag has a history, can be rolled back over a restart, and follows its upstream again', async () => {
  await using upstream = await startUpstream()
  const root = await mkdtemp(join(tmpdir(), 'entrepot-history-'))
  const entry = { manifestInvalidationMs: 0 }
  const put = (fill: number): Digest => upstream.putImage({ layers: [Buffer.alloc(10, fill)] }).manifest
  const [first, second, third] = [put(1), put(2), put(3)]
  try {
    {
      await using mirror = await startMirror({ upstream: upstream.host, entry, root })
      for (const digest of [first, second]) {
        upstream.tag('library/a', 'latest', digest)
        assert.equal(await served(mirror), digest)
      }
      const held = await ask<object>(mirror, 'PUT', `tags?image=a:latest&digest=${first}`)
      assert.deepEqual(held, { image: 'docker.io/library/a:latest', digest: first, before: second })
      upstream.tag('library/a', 'latest', third)
      assert.equal(await served(mirror), first)
      assert.equal(await served(mirror, ANEW), first)
    }
    await using mirror = await startMirror({ upstream: upstream.host, entry, root })
    const before = upstream.requests.length
    assert.equal(await served(mirror), first)
    assert.equal((await mirror.head(PATH)).headers['docker-content-digest'], first)
    assert.equal(upstream.requests.length, before, 'no upstream is asked for a tag that is fixed')
    const report = await ask<Report>(mirror, 'GET', 'history?image=a:latest')
    assert.deepEqual([report.digest, report.heldBy], [first, 'administrator'])
    const moves = report.moves.map(({ digest, by }) => [digest, by])
    assert.deepEqual(moves, [
      [first, 'administrator'],
      [second, 'upstream'],
      [first, 'upstream'],
    ])
    assert.partialDeepStrictEqual(await ask<object>(mirror, 'GET', 'pins'), {
      pins: [{ image: 'docker.io/library/a:latest' }],
    })
    await ask<object>(mirror, 'DELETE', 'tags?image=a:latest')
    assert.equal(await served(mirror), third)
    const after = await ask<Report>(mirror, 'GET', 'history?image=a:latest')
    assert.deepEqual([after.moves[0]?.digest, after.heldBy], [third, undefined])
    assert.deepEqual(await ask<object>(mirror, 'GET', 'pins'), { pins: [] })
  } finally {
    await rm(root, { recursive: true, force: true })
  }
})

test('a tag cannot be given a digest that its repository does not have, and what is no tag is refused', async () => {
  await using upstream = await startUpstream()
  const image = upstream.putImage({ layers: [Buffer.alloc(10)] }).manifest
  upstream.tag('library/a', 'latest', image)
  await using mirror = await startMirror({ upstream: upstream.host })
  const statusOf = async (method: string, path: string): Promise<number> =>
    (await mirror.admin(method, `/_admin/v1/${path}`)).status
  assert.equal(await statusOf('PUT', `tags?image=a:latest&digest=sha256:${'0'.repeat(64)}`), 404)
  assert.equal(await statusOf('PUT', 'tags?image=a:latest&digest=latest'), 400)
  assert.equal(await statusOf('PUT', `tags?image=a@${image}&digest=${image}`), 400)
  assert.equal(await statusOf('DELETE', 'tags?image=a:latest'), 404)
  assert.equal(await served(mirror), image)
  assert.deepEqual(await ask<object>(mirror, 'GET', 'history?image=b:latest'), {
    image: 'docker.io/library/b:latest',
    moves: [],
  })
})
