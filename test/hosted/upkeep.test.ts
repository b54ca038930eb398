import assert from 'node:assert/strict'
import { test } from 'node:test'
import { unlimitedTurn } from '../../src/content/job-turns.ts'
import { TagHistory } from '../../src/content/tag-history.ts'
import { Shelf } from '../../src/hosted/shelf.ts'
import type { HostedTerms } from '../../src/hosted/terms.ts'
import { forgetOldHistories } from '../../src/hosted/upkeep.ts'
import { parseNamePattern } from '../../src/oci/name-pattern.ts'
import { parseNamespace } from '../../src/oci/namespace.ts'
import { makeBlob, nameOf, tagOf } from '../mirror/rig.ts'
import { defined } from '../storage/contract.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { seeEvents } from '../support/seen-events.ts'

const DAY_MS = 24 * 3_600_000
const PLACE = { namespace: defined(parseNamespace('registry.example.com')), repository: nameOf('team/app') }
const DIGEST = makeBlob(1).digest
const TERMS: HostedTerms = {
  names: defined(parseNamePattern('registry.example.com/**')),
  immutableTags: ['v*'],
  quotaBytes: undefined,
  isReadOnly: false,
  retention: undefined,
}

test('the history of a removed tag goes after 90 days, unless the tag is there or immutable', async () => {
  const clock = new FakeClock()
  const store = new MemoryStore(clock)
  const { events } = seeEvents()
  const shelf = new Shelf(store, events)
  const history = new TagHistory({ store, clock, events })
  const [there, gone, version] = [tagOf('there'), tagOf('gone'), tagOf('v1')]
  await shelf.know(PLACE)
  for (const tag of [there, gone, version])
    await history.add(PLACE, tag, { digest: DIGEST, by: 'ci' }, 'durable')
  const record = { digest: DIGEST, movedAtMs: clock.wallMs(), by: 'ci' }
  await store.writeSteps([shelf.tagWrites(PLACE, there, record)], 'durable')
  clock.advance(DAY_MS)
  for (const tag of [gone, version]) await history.add(PLACE, tag, { digest: undefined, by: 'ci' }, 'durable')
  const movesOf = async (): Promise<readonly number[]> => {
    await forgetOldHistories(
      { shelf, history, terms: () => [TERMS] },
      unlimitedTurn(new AbortController().signal),
    )
    return await Promise.all([there, gone, version].map(async tag => (await history.read(PLACE, tag)).length))
  }
  clock.advance(89 * DAY_MS)
  assert.deepEqual(await movesOf(), [1, 2, 2])
  clock.advance(DAY_MS)
  assert.deepEqual(await movesOf(), [1, 0, 2])
})
