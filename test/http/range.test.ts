import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { answerRange, type RangeAnswer } from '../../src/http/range.ts'

const whole: RangeAnswer = { kind: 'whole' }
const unsatisfiable: RangeAnswer = { kind: 'unsatisfiable' }
const part = (start: number, end: number): RangeAnswer => ({ kind: 'part', range: { start, end } })

const ANSWERS: readonly (readonly [string | undefined, number, RangeAnswer])[] = [
  [undefined, 100, whole],
  ['', 100, whole],
  ['bytes=0-', 100, part(0, 100)],
  ['bytes=0-0', 100, part(0, 1)],
  ['bytes=10-19', 100, part(10, 20)],
  ['bytes=99-', 100, part(99, 100)],
  ['bytes=100-', 100, unsatisfiable],
  ['bytes=99-1000', 100, part(99, 100)],
  ['bytes=100-1000', 100, unsatisfiable],
  ['bytes=-1', 100, part(99, 100)],
  ['bytes=-100', 100, part(0, 100)],
  ['bytes=-101', 100, part(0, 100)],
  ['bytes=-0', 100, unsatisfiable],
  ['bytes=0-', 0, unsatisfiable],
  ['bytes=20-10', 100, whole],
  ['bytes=0-1,5-6', 100, whole],
  ['bytes=0-1,', 100, whole],
  ['bytes=-', 100, whole],
  ['bytes=a-b', 100, whole],
  ['bytes=0x1-', 100, whole],
  ['bytes=+1-', 100, whole],
  ['bytes=1.5-', 100, whole],
  ['bytes 0-1', 100, whole],
  ['lines=0-1', 100, whole],
  ['Bytes=0-1', 100, part(0, 2)],
  ['bytes= 1 - 2', 100, part(1, 3)],
  ['bytes=0-\n', 100, whole],
]
for (const [header, sizeBytes, answer] of ANSWERS) {
  test(`${JSON.stringify(header)} of ${sizeBytes} bytes is ${JSON.stringify(answer)}`, () => {
    assert.deepEqual(answerRange(header, sizeBytes), answer)
  })
}

/** RFC 9110 word by word, over a list of positions. */
function naive(
  first: number | undefined,
  last: number | undefined,
  size: number,
): readonly number[] | 'whole' {
  const positions = Array.from({ length: size }, (_, position) => position)
  if (first === undefined) return last === undefined || last === 0 ? [] : positions.slice(-last)
  if (last !== undefined && last < first) return 'whole'
  return positions.filter(position => position >= first && (last === undefined || position <= last))
}

test('every single range means what the RFC says of each position', () => {
  const bound = fc.option(fc.nat(40), { nil: undefined })
  fc.assert(
    fc.property(bound, bound, fc.nat(30), (first, last, size) => {
      fc.pre(first !== undefined || last !== undefined)
      const answer = answerRange(`bytes=${first ?? ''}-${last ?? ''}`, size)
      const positions = naive(first, last, size)
      if (positions === 'whole') assert.equal(answer.kind, 'whole')
      else if (positions.length === 0) assert.equal(answer.kind, 'unsatisfiable')
      else assert.deepEqual(answer, part(positions[0] ?? -1, (positions.at(-1) ?? -1) + 1))
    }),
    { numRuns: 5000 },
  )
})
