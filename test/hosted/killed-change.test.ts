import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { suite, type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Post } from '../../src/observe/notifications/courier.ts'
import type { Store } from '../../src/storage/store.ts'
import { makeRoom } from '../storage/rooms.ts'
import { addressOf } from '../storage/s3/rooms.ts'
import { startS3Stub } from '../support/s3-stub.ts'
import { until } from '../support/waiting.ts'
import { type ChangeKind, type ChangePlace, openChanges } from './change-rig.ts'
import type { KilledChange } from './killed-change.ts'

const PROGRAM = fileURLToPath(new URL('killed-change.ts', import.meta.url))

const STORES: Readonly<Record<string, (t: TestContext) => Promise<ChangePlace>>> = {
  'a file system': async t => ({ directory: await makeRoom(t) }),
  'a bucket': async t => {
    const stub = await startS3Stub()
    t.after(async () => await stub[Symbol.asyncDispose]())
    return { directory: await makeRoom(t), bucket: addressOf(stub) }
  },
}

/** What happens before and after the change of a kind, and the types of what is told from the change on. */
const CHANGES = {
  push: { before: [], after: 'untag', told: ['manifest.pushed', 'tag.moved', 'tag.deleted'] },
  untag: { before: ['push'], after: 'push', told: ['tag.deleted', 'tag.moved'] },
  delete: {
    before: ['push', 'untag'],
    after: 'push',
    told: ['manifest.deleted', 'manifest.pushed', 'tag.moved'],
  },
} as const satisfies Readonly<
  Record<ChangeKind, { before: readonly ChangeKind[]; after: ChangeKind; told: readonly string[] }>
>

async function dieIn(change: KilledChange): Promise<void> {
  const child = spawn(process.execPath, [PROGRAM, JSON.stringify(change)], { stdio: 'inherit' })
  const [, signal] = (await once(child, 'exit')) as [number | null, string | null]
  assert.equal(signal, 'SIGKILL')
}

/** An endpoint, and the types of what it was told. */
function listen(): { readonly post: Post; readonly told: string[] } {
  const told: string[] = []
  const post: Post = async (_, body) => {
    const { type } = JSON.parse(body) as { type: string }
    told.push(type.replace('entrepot.', ''))
    return await Promise.resolve({ status: 204, retryAfterMs: undefined })
  }
  return { post, told }
}

async function makeChanges(place: ChangePlace, kinds: readonly ChangeKind[]): Promise<void> {
  const { post, told } = listen()
  await using changes = await openChanges(place, { endpoint: { post } })
  for (const kind of kinds) await changes.change(kind)
  await until(async () => told.length > 0 && (await changes.undelivered()) === 0, 'all is told')
}

for (const [name, makePlace] of Object.entries(STORES)) {
  suite(`a process that is killed in a change, on ${name}`, () => {
    for (const kind of ['push', 'untag', 'delete'] as const) {
      const { before, after, told: expected } = CHANGES[kind]
      test(`${kind}: the next process tells what was durable, and the retry of the client nothing more`, async t => {
        const place = await makePlace(t)
        if (before.length > 0) await makeChanges(place, before)
        await dieIn({ place, kind, dies: 'after' })
        const { post, told } = listen()
        await using changes = await openChanges(place, { endpoint: { post } })
        await until(async () => (await changes.undelivered()) === 0, 'the change is told')
        if (kind === 'push') await changes.change('push')
        await changes.change(after)
        await until(() => told.length >= expected.length, 'the next change is told')
        assert.deepEqual(told, expected)
      })

      test(`${kind}: the next process does not tell what was never written, and the retry is told`, async t => {
        const place = await makePlace(t)
        if (before.length > 0) await makeChanges(place, before)
        await dieIn({ place, kind, dies: 'before' })
        const { post, told } = listen()
        await using changes = await openChanges(place, { endpoint: { post } })
        await until(async () => (await changes.undelivered()) === 0, 'the change is forgotten')
        await changes.change(kind)
        await changes.change(after)
        await until(() => told.length >= expected.length, 'the next change is told')
        assert.deepEqual(told, expected)
      })
    }
  })
}

test('a push that was written is told although the answer of the store was lost', async t => {
  const { post, told } = listen()
  const state = { isLost: true }
  const over = (store: Store): Store => {
    const write = store.writeSteps.bind(store)
    store.writeSteps = async (steps, durability) => {
      await write(steps, durability)
      if (durability === 'durable' && state.isLost) throw new Error('the answer was lost')
    }
    return store
  }
  await using changes = await openChanges({ directory: await makeRoom(t) }, { endpoint: { post }, over })
  await assert.rejects(changes.change('push'))
  await until(() => told.length === 2, 'the push is told')
  state.isLost = false
  await changes.change('push')
  await changes.change('untag')
  await until(() => told.length === 3, 'the next change is told')
  assert.deepEqual(told, CHANGES.push.told)
})
