import assert from 'node:assert/strict'
import { test } from 'node:test'
import { planRepository } from '../../src/migration/plan.ts'
import type { FoundRepository } from '../../src/migration/source.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { OCI_INDEX } from '../../src/oci/media-type.ts'

/** A repository of indexes, each of which names the one before it. */
function chainOf(count: number, isWhole: boolean): FoundRepository {
  const stored = new Map<Digest, Uint8Array>()
  let below: Digest | undefined
  for (let each = 0; each < count; each += 1) {
    const manifests = below === undefined ? [] : [{ mediaType: OCI_INDEX, digest: below, size: 1 }]
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }))
    below = digestOf(bytes)
    if (isWhole || each > 0) stored.set(below, bytes)
  }
  return {
    name: 'deep',
    manifests: [...stored.keys()].toReversed(),
    tags: [],
    troubles: [],
    readManifest: async digest => await Promise.resolve(stored.get(digest)),
  }
}

test('indexes that are nested 12,000 deep are ordered, and none is imported if the lowest is missing', async () => {
  const whole = await planRepository(chainOf(3, true), { isTaggedOnly: false })
  assert.deepEqual(
    whole.levels.map(level => level.length),
    [1, 1, 1],
  )
  const broken = await planRepository(chainOf(12_000, false), { isTaggedOnly: false })
  assert.deepEqual(broken.levels.flat(), [])
  assert.equal(broken.omissions.length, 11_999)
})
