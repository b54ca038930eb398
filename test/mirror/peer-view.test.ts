import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Epoch } from '../../src/content/epoch.ts'
import { PeerView, type PeerViewParts } from '../../src/mirror/peer-view.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { tagRecord } from '../storage/contract.ts'

test('content that another replica has deleted is forgotten, its local copy first, and asked for again', async () => {
  const [digest, epoch, done] = [digestOf(Buffer.from('content')), new Epoch(), [] as string[]]
  const name = tagRecord('1')
  assert.ok(name.kind === 'tag')
  const { namespace, repository } = name
  const view = new PeerView({
    store: { copies: { drop: async (dropped: string) => void done.push(`copy ${dropped}`) } },
    stored: { forget: () => void done.push('manifest') },
    proofs: { forget: () => void done.push('blob') },
    epoch,
  } as unknown as PeerViewParts)
  const before = epoch.view({ namespace, repository }, digest)
  await view.changed({ namespace, repository }, { tag: undefined, digest })
  assert.deepEqual(done, [`copy ${digest}`, 'manifest', 'blob'])
  assert.equal(epoch.isSame(before), false)
})
