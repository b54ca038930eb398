import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { Worker } from 'node:worker_threads'
import type { Answer, ContentAnswering } from '../../../src/content/answering.ts'
import { ThreadHost } from '../../../src/http/threads/thread-host.ts'
import { SharedCount } from '../../../src/lib/shared-count.ts'
import { digestOf } from '../../../src/oci/digest.ts'
import { DOCKER_HUB } from '../../../src/oci/namespace.ts'
import { seeEvents } from '../../support/seen-events.ts'
import { until } from '../../support/waiting.ts'

const digest = digestOf(new Uint8Array(0))
const request = {
  method: 'GET',
  kind: 'blob',
  asked: { namespace: DOCKER_HUB, repository: 'a', trail: [] },
  digest,
}

/** A thread that sends what a test tells it to, and records the messages it gets. */
class FakeWorker extends EventEmitter {
  readonly told: { readonly kind: string; readonly id?: number; readonly value?: unknown }[] = []
  isTerminated = false

  postMessage(message: { readonly kind: string; readonly id: number }): void {
    this.told.push(message)
    if (message.kind === 'call') this.emit('message', { kind: 'value', id: message.id, value: undefined })
  }

  async terminate(): Promise<number> {
    await setImmediate()
    this.isTerminated = true
    this.emit('exit', 1)
    return 1
  }

  say(message: object): void {
    this.emit('message', message)
  }
}

interface Rig {
  readonly worker: FakeWorker
  readonly host: ThreadHost
  readonly failures: Error[]
}

function makeHost(pullBlob: () => Promise<Answer>): Rig {
  const worker = new FakeWorker()
  const failures: Error[] = []
  const nothing = async (): Promise<void> => await Promise.resolve()
  const parts = {
    answering: { pullBlob } as unknown as ContentAnswering,
    identifier: { identify: async () => await Promise.reject(new Error('nobody asks')) },
    mirror: { shownAgain: nothing },
    ledger: { used: () => undefined },
    recentPulls: { note: () => undefined, again: () => undefined },
    recentClients: { merge: () => undefined },
    events: seeEvents().events,
    output: { write: () => undefined },
    waitingLog: new SharedCount(),
  }
  const host = new ThreadHost(worker as unknown as Worker, parts, error => void failures.push(error))
  return { worker, host, failures }
}

/** Content that says when it is let go, and whose reads wait for ever. */
function stuckAnswer(): { readonly answer: Answer; readonly disposals: () => number } {
  let count = 0
  const answer = {
    outcome: 'hit',
    content: {
      digest,
      mediaType: 'application/octet-stream',
      sizeBytes: 10,
      async *read() {
        yield await new Promise<Uint8Array>(() => undefined)
      },
      [Symbol.asyncDispose]: async () => {
        count += 1
        await Promise.resolve()
      },
    },
  } as const
  return { answer, disposals: () => count }
}

test('an answer that arrives after its thread has ended is disposed of', async () => {
  const { answer, disposals } = stuckAnswer()
  const late = Promise.withResolvers<Answer>()
  const { worker, host, failures } = makeHost(async () => await late.promise)
  worker.say({ kind: 'call', id: 1, name: 'answer', args: [request] })
  await host[Symbol.asyncDispose]()
  assert.equal(worker.isTerminated, true)
  late.resolve(answer)
  await until(() => disposals() === 1, 'the late answer is let go')
  assert.deepEqual(failures, [])
})

test('content held for a thread is disposed of when it ends, even while a read is waiting', async () => {
  const { answer, disposals } = stuckAnswer()
  const { worker, host } = makeHost(async () => await Promise.resolve(answer))
  for (const id of [1, 2]) worker.say({ kind: 'call', id, name: 'answer', args: [request] })
  await until(() => worker.told.filter(({ kind }) => kind === 'value').length === 2, 'both are answered')
  for (const [id, contentId] of [
    [3, 1],
    [4, 2],
  ]) {
    worker.say({ kind: 'call', id, name: 'openStream', args: [contentId, { start: 0, end: 10 }, false] })
  }
  await until(() => worker.told.filter(({ kind }) => kind === 'value').length === 4, 'both are read')
  for (const [id, streamId] of [
    [5, 3],
    [6, 4],
  ]) {
    const target = new Uint8Array(new SharedArrayBuffer(10))
    worker.say({ kind: 'call', id, name: 'nextPiece', args: [streamId, target] })
  }
  await setImmediate()
  await host[Symbol.asyncDispose]()
  assert.equal(disposals(), 2)
})

test('released content is disposed of once, and a thread that ends by itself is reported', async () => {
  const { answer, disposals } = stuckAnswer()
  const { worker, host, failures } = makeHost(async () => await Promise.resolve(answer))
  worker.say({ kind: 'call', id: 1, name: 'answer', args: [request] })
  await until(() => worker.told.length === 1, 'it is answered')
  worker.say({ kind: 'tell', name: 'release', args: [1] })
  await until(() => disposals() === 1, 'it is let go')
  worker.emit('exit', 1)
  assert.equal(failures.length, 1)
  await assert.rejects(host.listen({ host: '127.0.0.1', port: 0, isTls: false }), /has ended/)
  await setImmediate()
  assert.equal(disposals(), 1)
})
