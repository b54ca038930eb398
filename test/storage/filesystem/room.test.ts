import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isJournaled } from '../../../src/storage/filesystem/room.ts'

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
