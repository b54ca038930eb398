import assert from 'node:assert/strict'
import { existsSync, readdirSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { test } from 'node:test'
import { isJournaled, keepsOrder } from '../../../src/storage/filesystem/room.ts'

const FILE_SYSTEMS: readonly (readonly [string, number, boolean])[] = [
  ['ext4', 0xef53, true],
  ['xfs', 0x58465342, true],
  ['btrfs', 0x9123683e, false],
  ['f2fs', 0xf2f52010, false],
  ['zfs', 0x2fc12fc1, false],
  ['nfs', 0x6969, false],
  ['tmpfs', 0x01021994, false],
]

for (const [name, type, wanted] of FILE_SYSTEMS) {
  test(`a sync on ${name} ${wanted ? 'carries' : 'does not have to carry'} the changes before it`, () => {
    assert.equal(isJournaled(type), wanted)
  })
}

test('a sync does not carry the changes before it where nothing has a journal', async () => {
  const hasExt4Journal = existsSync('/proc/fs/jbd2') && readdirSync('/proc/fs/jbd2').length > 0
  const isXfs = statfsSync(tmpdir()).type === 0x58465342
  if (!hasExt4Journal && !isXfs) assert.equal(await keepsOrder(tmpdir()), false)
  assert.equal(await keepsOrder('/proc'), false)
  assert.equal(await keepsOrder('/nowhere'), false)
})
