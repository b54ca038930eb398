import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { IndexFeed } from '../../../src/content/index/feed.ts'
import { digestOf } from '../../../src/oci/digest.ts'
import { damages } from '../../support/damages.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { seeEvents } from '../../support/seen-events.ts'

test('I32 no flipped bit and no truncation of the index stops the mirror from opening and using it', async t => {
  const root = await mkdtemp(join(tmpdir(), 'entrepot-index-'))
  t.after(async () => await rm(root, { recursive: true }))
  const path = join(root, 'index.sqlite')
  const digest = digestOf(Buffer.from('content'))
  const feedOf = (): IndexFeed =>
    new IndexFeed({
      path,
      clock: new FakeClock(),
      events: seeEvents().events,
      namespaces: () => [],
      onStale: () => undefined,
    })
  const fill = async (feed: IndexFeed): Promise<void> => {
    feed.note({ kind: 'stored', digest, sizeBytes: 7, atMs: 1, namespace: 'docker.io' }, 7)
    await feed.flush()
  }
  {
    await using feed = feedOf()
    await feed.open()
    await fill(feed)
    feed.complete()
  }
  const sound = await readFile(path)
  const tried = async (damage: (bytes: Uint8Array) => Uint8Array): Promise<void> => {
    await writeFile(path, damage(sound))
    await using feed = feedOf()
    await feed.open()
    assert.equal(feed.state, 'open')
    // What was damaged is thrown away at the latest by the question that meets it; the next one is answered.
    await feed.ask('objects', [digest]).catch(() => undefined)
    await fill(feed)
    const [entry] = await feed.ask('objects', [digest])
    assert.equal(entry?.sizeBytes, 7)
  }
  await fc.assert(fc.asyncProperty(damages(sound.byteLength), tried), { numRuns: 20 })
})
