import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  BLOB_CURSOR,
  blobOrderOf,
  cursorOf,
  IMAGE_CURSOR,
  imageOrderOf,
  isOn,
  limitOf,
  patternsOf,
  platformsIn,
  registryOf,
  sizeIn,
  unusedMsOf,
} from '../../src/admin/query.ts'

const ask = <T>(read: (query: URLSearchParams) => T, query: string): T => read(new URLSearchParams(query))
const blobCursor = (query: URLSearchParams): string | undefined => cursorOf(query, BLOB_CURSOR)
const imageCursor = (query: URLSearchParams): string | undefined => cursorOf(query, IMAGE_CURSOR)

const ACCEPTED: readonly [string, (query: URLSearchParams) => unknown, unknown][] = [
  ['', limitOf, 100],
  ['limit=1', limitOf, 1],
  ['limit=1000', limitOf, 1000],
  ['', blobOrderOf, 'last-use'],
  ['sort=hits', blobOrderOf, 'hits'],
  ['', imageOrderOf, 'name'],
  ['', registryOf, undefined],
  ['registry=GHCR.io', registryOf, 'ghcr.io'],
  ['dry-run=true', query => isOn(query, 'dry-run'), true],
  ['', unusedMsOf, undefined],
  ['', blobCursor, undefined],
  ['after=0', blobCursor, '0'],
  ['after=999999999999999', blobCursor, '999999999999999'],
  ['after=docker.io+library/alpine+3.20', imageCursor, 'docker.io library/alpine 3.20'],
  ['after=12', imageCursor, '12'],
  ['', sizeIn, undefined],
  ['bytes=1', sizeIn, 1],
]

for (const [query, read, expected] of ACCEPTED) {
  test(`"${query}" reads as ${String(expected)}`, () => {
    assert.equal(ask(read, query), expected)
  })
}

const REFUSED: readonly [string, (query: URLSearchParams) => unknown, RegExp][] = [
  ['limit=0', limitOf, /^limit "0" is not a whole number from 1 to 1000$/],
  ['limit=1001', limitOf, /^limit "1001" /],
  ['limit=1e2', limitOf, /^limit "1e2" /],
  ['limit=', limitOf, /^limit "" /],
  ['sort=name', blobOrderOf, /^sort "name" is not one of last-use, size, hits$/],
  ['dry-run=1', query => isOn(query, 'dry-run'), /^dry-run "1" is not true or false$/],
  ['pattern=a+b', patternsOf, /^pattern "a b" is not a pattern/],
  ['registry=a/b', registryOf, /^registry "a\/b" is not the name/],
  ['unused=1d', unusedMsOf, /^unused "1d" is not a number of milliseconds$/],
  ['sort=__proto__', blobOrderOf, /^sort "__proto__" is not one of last-use, size, hits$/],
  ['after=x', blobCursor, /^after "x" is not the "next" of the page before$/],
  ['after=', blobCursor, /^after "" /],
  ['after=-1', blobCursor, /^after "-1" /],
  ['after=NaN', blobCursor, /^after "NaN" /],
  ['after=1000000000000000', blobCursor, /^after /],
  ['after=x+y', imageCursor, /^after "x y" /],
  [`after=${'a'.repeat(65)}`, blobCursor, /^after "a{64}…" /],
  ['platform=linux', platformsIn, /^platform "linux" is not a platform such as linux\/amd64$/],
  ['bytes=0', sizeIn, /^bytes "0" is not a whole number above 0$/],
  ['bytes=9007199254740992', sizeIn, /^bytes /],
]

for (const [query, read, message] of REFUSED) {
  test(`"${query.slice(0, 40)}" is refused with its value and what is accepted`, () => {
    assert.throws(() => ask(read, query), { code: 'REQUEST_INVALID', message })
  })
}
