import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Download } from '../../../src/mirror/fill/download.ts'
import { UpstreamError, type UpstreamErrorKind } from '../../../src/oci/error.ts'
import type { BlobBody } from '../../../src/upstream/registry.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { blobBody, FakeRegistry, type RegistryScript } from '../../support/fake-registry.ts'
import { seeEvents } from '../../support/seen-events.ts'
import { until } from '../../support/waiting.ts'
import { type Blob, collectUntilFailure, makeBlob, settle, sourceOf } from '../rig.ts'

const SIZE = 500_000

/**
 * Downloads a blob from an upstream that answers by a script; from the start unless bytes are there already.
 */
async function download(
  blob: Blob,
  getBlob: RegistryScript['getBlob'],
  had = 0,
): Promise<{
  readonly bytes: Buffer
  readonly error: unknown
  readonly asked: readonly string[]
  readonly clock: FakeClock
}> {
  const registry = new FakeRegistry(getBlob === undefined ? {} : { getBlob })
  const clock = FakeClock.skipDelays()
  const start = Download.start(blob.digest)
  start.hash.update(blob.bytes.subarray(0, had))
  const wanted = { source: sourceOf(registry), digest: blob.digest }
  const parts = { events: seeEvents().events, clock }
  const running = new Download(parts, wanted, { offset: had, hash: start.hash }, new AbortController().signal)
  try {
    await running.open()
  } catch (error) {
    return { bytes: Buffer.alloc(0), error, asked: registry.asked, clock }
  }
  return { ...(await collectUntilFailure(each(running))), asked: registry.asked, clock }
}

async function* each(download: Download): AsyncGenerator<Uint8Array> {
  for await (const chunks of download.chunks()) yield* chunks
}

function kindOf(error: unknown): UpstreamErrorKind | undefined {
  return error instanceof UpstreamError ? error.kind : undefined
}

/** The pauses before resumes; longer delays are limits. */
function pausesOf(clock: FakeClock): readonly number[] {
  return clock.delays.filter(ms => ms <= 10_000)
}

const cutThen =
  (
    bytes: Uint8Array,
    cutAfter: number,
    then: (offset: number) => BlobBody | undefined,
  ): RegistryScript['getBlob'] =>
  ({ offset }, attempt) =>
    attempt === 0 ? blobBody(bytes, { cutAfter, offset }) : then(offset)

test('a blob that comes whole is asked for once', async () => {
  const blob = makeBlob(SIZE)
  const { bytes, error, asked } = await download(blob, () => blobBody(blob.bytes))
  assert.equal(error, undefined)
  assert.ok(bytes.equals(blob.bytes))
  assert.deepEqual(asked, ['get-blob 0'])
})

test('a cut is resumed at exactly the byte where it was, at once', async () => {
  const blob = makeBlob(SIZE)
  const result = await download(
    blob,
    cutThen(blob.bytes, 123_457, offset => blobBody(blob.bytes, { offset })),
  )
  assert.equal(result.error, undefined)
  assert.ok(result.bytes.equals(blob.bytes))
  assert.deepEqual(result.asked, ['get-blob 0', 'get-blob 123457'])
  assert.deepEqual(pausesOf(result.clock), [0])
})

test('a resume carries the validator of the first answer', async () => {
  const blob = makeBlob(SIZE)
  const validators: (string | undefined)[] = []
  await download(blob, ({ offset, validator }, attempt) => {
    validators.push(validator)
    return blobBody(blob.bytes, {
      offset,
      validator: `"${attempt}"`,
      ...(attempt === 0 ? { cutAfter: 1000 } : {}),
    })
  })
  assert.deepEqual(validators, [undefined, '"0"'])
})

test('an upstream that starts over with the same bytes is skipped up to where we were', async () => {
  const blob = makeBlob(SIZE)
  const { bytes, error } = await download(
    blob,
    cutThen(blob.bytes, 100_001, () => blobBody(blob.bytes)),
  )
  assert.equal(error, undefined)
  assert.ok(bytes.equals(blob.bytes))
})

test('an upstream that starts over with another prefix is a mismatch, and none of it is given out', async () => {
  const blob = makeBlob(SIZE)
  const other = Buffer.from(blob.bytes)
  other[7] = (other[7] ?? 0) ^ 1
  const { bytes, error } = await download(
    blob,
    cutThen(blob.bytes, 100_001, () => blobBody(other)),
  )
  assert.equal(kindOf(error), 'mismatch')
  assert.equal(bytes.length, 100_001)
})

test('an upstream that starts over and ends before where we were is a mismatch', async () => {
  const blob = makeBlob(SIZE)
  const shorter = (): BlobBody => blobBody(blob.bytes.subarray(0, 5000), { sizeBytes: null })
  const { error } = await download(blob, cutThen(blob.bytes, 100_001, shorter))
  assert.equal(kindOf(error), 'mismatch')
})

const WRONG_RESUMES: readonly (readonly [string, (bytes: Buffer, offset: number) => BlobBody | undefined])[] =
  [
    ['states another total', (bytes, offset) => blobBody(bytes, { offset, sizeBytes: bytes.length + 1 })],
    [
      'sends a range that begins later',
      (bytes, offset) => blobBody(bytes, { offset: offset + 1, sizeBytes: bytes.length }),
    ],
    [
      'sends a range that begins earlier',
      (bytes, offset) => blobBody(bytes, { offset: offset - 1, sizeBytes: bytes.length }),
    ],
    ['denies the blob', () => undefined],
  ]
for (const [what, answer] of WRONG_RESUMES) {
  test(`an upstream that ${what} when resumed is invalid, and is not asked again`, async () => {
    const blob = makeBlob(SIZE)
    const { bytes, error, asked } = await download(
      blob,
      cutThen(blob.bytes, 100_000, offset => answer(blob.bytes, offset)),
    )
    assert.equal(kindOf(error), 'invalid')
    assert.equal(bytes.length, 100_000)
    assert.equal(asked.length, 2)
  })
}

test('a blob of the stated length with another digest is a mismatch at its end', async () => {
  const blob = makeBlob(SIZE)
  const { error, asked } = await download(blob, () => blobBody(makeBlob(SIZE).bytes))
  assert.equal(kindOf(error), 'mismatch')
  assert.equal(asked.length, 1)
})

test('bytes beyond the stated length are never given out', async () => {
  const blob = makeBlob(SIZE)
  const long = Buffer.concat([blob.bytes, Buffer.from('surplus')])
  const { bytes, error } = await download(blob, () =>
    blobBody(long, { sizeBytes: SIZE, chunkBytes: 100_003 }),
  )
  assert.ok(bytes.length <= SIZE)
  assert.equal(kindOf(error), 'invalid')
})

test('a blob that is complete before its connection breaks is complete', async () => {
  const blob = makeBlob(SIZE)
  const body = blobBody(Buffer.concat([blob.bytes, Buffer.from('x')]), { sizeBytes: SIZE, cutAfter: SIZE })
  const { bytes, error, asked } = await download(blob, () => body)
  assert.equal(error, undefined)
  assert.ok(bytes.equals(blob.bytes))
  assert.equal(asked.length, 1)
})

test('a body that ends early without an error is resumed like a cut', async () => {
  const blob = makeBlob(SIZE)
  const { bytes, error } = await download(blob, ({ offset }, attempt) =>
    attempt === 0
      ? blobBody(blob.bytes.subarray(0, 1000), { sizeBytes: SIZE })
      : blobBody(blob.bytes, { offset }),
  )
  assert.equal(error, undefined)
  assert.ok(bytes.equals(blob.bytes))
})

test('a blob without a stated length is held against its digest alone', async () => {
  const blob = makeBlob(SIZE)
  assert.equal((await download(blob, () => blobBody(blob.bytes, { sizeBytes: null }))).error, undefined)
  const short = await download(blob, () => blobBody(blob.bytes.subarray(1), { sizeBytes: null }))
  assert.equal(kindOf(short.error), 'mismatch')
})

test('an upstream that says the blob is empty is believed only for the digest of nothing, before any byte', async () => {
  const { error, bytes } = await download(makeBlob(10), () => blobBody(Buffer.alloc(0)))
  assert.equal(kindOf(error), 'mismatch')
  assert.equal(bytes.length, 0)
  const empty = makeBlob(0)
  assert.equal((await download(empty, () => blobBody(empty.bytes))).error, undefined)
})

test('without progress five resumes are the end, with growing pauses between them', async () => {
  const blob = makeBlob(SIZE)
  const { error, asked, clock } = await download(blob, ({ offset }) =>
    blobBody(blob.bytes, { offset, cutAfter: 10 }),
  )
  assert.equal(kindOf(error), 'cut')
  assert.equal(asked.length, 6)
  assert.deepEqual(pausesOf(clock), [0, 500, 1000, 2000, 4000])
})

test('a mebibyte of progress makes the upstream good for five more', async () => {
  const blob = makeBlob(12 * 1024 * 1024)
  const { bytes, error, asked } = await download(blob, ({ offset }) =>
    blobBody(blob.bytes, { offset, cutAfter: 1024 * 1024, chunkBytes: 256 * 1024 }),
  )
  assert.equal(error, undefined)
  assert.ok(bytes.equals(blob.bytes))
  assert.equal(asked.length, 12)
})

test("an upstream's wish to be left alone is kept to, up to ten seconds", async () => {
  const blob = makeBlob(SIZE)
  const { clock, error } = await download(blob, ({ offset }, attempt) => {
    if (attempt === 0) return blobBody(blob.bytes, { cutAfter: 1000 })
    if (attempt < 3)
      throw new UpstreamError('rate-limited', 'later', { retryAfterMs: attempt === 1 ? 3000 : 99_000 })
    return blobBody(blob.bytes, { offset })
  })
  assert.equal(error, undefined)
  assert.deepEqual(pausesOf(clock), [0, 3000, 10_000])
})

for (const kind of ['refused', 'invalid', 'mismatch'] as const) {
  test(`trouble of the kind ${kind} is not resumed`, async () => {
    const blob = makeBlob(SIZE)
    const { error, asked } = await download(blob, (_, attempt) => {
      if (attempt > 0) throw new UpstreamError(kind, 'no')
      return blobBody(blob.bytes, { cutAfter: 1000 })
    })
    assert.equal(kindOf(error), kind)
    assert.equal(asked.length, 2)
  })
}

test('what is broken on our side is not resumed', async () => {
  const blob = makeBlob(SIZE)
  const { error, asked } = await download(blob, (_, attempt) => {
    if (attempt > 0) throw new TypeError('a bug')
    return blobBody(blob.bytes, { cutAfter: 1000 })
  })
  assert.ok(error instanceof TypeError)
  assert.equal(asked.length, 2)
})

test('an aborted download ends with the reason of its signal, its body disposed of', async () => {
  const blob = makeBlob(SIZE)
  let disposals = 0
  const registry = new FakeRegistry({
    getBlob: (_, __, signal) => blobBody(blob.bytes, { signal, onDispose: () => void (disposals += 1) }),
  })
  const abandoned = new AbortController()
  const parts = { events: seeEvents().events, clock: new FakeClock() }
  const wanted = { source: sourceOf(registry), digest: blob.digest }
  const running = new Download(parts, wanted, Download.start(blob.digest), abandoned.signal)
  await running.open()
  const reason = new Error('the mirror is shutting down')
  const { error } = await collectUntilFailure(
    (async function* () {
      for await (const chunk of each(running)) {
        abandoned.abort(reason)
        yield chunk
      }
    })(),
  )
  assert.equal(error, reason)
  assert.equal(disposals, 1)
})

test('a download that is left early disposes of its body', async () => {
  const blob = makeBlob(SIZE)
  let disposals = 0
  const registry = new FakeRegistry({
    getBlob: () => blobBody(blob.bytes, { onDispose: () => void (disposals += 1) }),
  })
  const parts = { events: seeEvents().events, clock: new FakeClock() }
  const wanted = { source: sourceOf(registry), digest: blob.digest }
  const running = new Download(parts, wanted, Download.start(blob.digest), new AbortController().signal)
  await running.open()
  for await (const chunk of running.chunks()) if (chunk.length > 0) break
  assert.equal(disposals, 1)
})

test('wherever the upstream cuts, and whether it resumes or starts over, the blob comes out right or not at all', async () => {
  const blob = makeBlob(60_000)
  const answers = fc.array(
    fc.record({
      cutAfter: fc.integer({ min: 1, max: 70_000 }),
      startsOver: fc.boolean(),
      isFlipped: fc.boolean(),
    }),
    { minLength: 1, maxLength: 5 },
  )
  const flipped = Buffer.from(blob.bytes)
  flipped[30_000] = (flipped[30_000] ?? 0) ^ 1
  await fc.assert(
    fc.asyncProperty(answers, fc.integer({ min: 300, max: 9000 }), async (answers, chunkBytes) => {
      const { bytes, error } = await download(blob, ({ offset }, attempt) => {
        const { cutAfter, startsOver, isFlipped } = answers[attempt] ?? {
          cutAfter: Infinity,
          startsOver: false,
          isFlipped: false,
        }
        return blobBody(isFlipped ? flipped : blob.bytes, {
          cutAfter,
          chunkBytes,
          offset: startsOver ? 0 : offset,
        })
      })
      if (error === undefined) assert.ok(bytes.equals(blob.bytes))
      else assert.ok(error instanceof UpstreamError)
    }),
    { numRuns: 300 },
  )
})

/** Two pieces, the second never sent: the upstream stalls after `silentMs`, by the clock. */
async function* stallAfter(
  piece: Uint8Array,
  clock: FakeClock,
  silentMs: number,
): AsyncGenerator<Uint8Array> {
  yield piece
  await settle()
  clock.advance(silentMs)
  throw new UpstreamError('stalled', 'stopped sending')
}

function stallingBody(bytes: Uint8Array, offset: number, chunks: AsyncIterable<Uint8Array>): BlobBody {
  return { ...blobBody(bytes, { offset }), chunks }
}

test('an upstream that stalls and then hangs is given up 45 s after its last byte', async () => {
  const blob = makeBlob(SIZE)
  const clock = new FakeClock()
  const registry = new FakeRegistry({
    getBlob: async (_, attempt, signal) => {
      if (attempt === 0)
        return stallingBody(blob.bytes, 0, stallAfter(blob.bytes.subarray(0, 1000), clock, 30_000))
      await once(signal, 'abort')
      throw signal.reason
    },
  })
  const wanted = { source: sourceOf(registry), digest: blob.digest }
  const start = Download.start(blob.digest)
  const running = new Download(
    { events: seeEvents().events, clock },
    wanted,
    start,
    new AbortController().signal,
  )
  await running.open()
  let isOver = false
  const reading = collectUntilFailure(each(running)).finally(() => (isOver = true))
  await until(() => clock.sleepers === 2, 'the limit and the pause before the first resume wait')
  clock.advance(0)
  await until(() => registry.asked.length === 2, 'it asks for the rest')
  clock.advance(14_999)
  await settle()
  assert.equal(isOver, false)
  clock.advance(1)
  const { bytes, error } = await reading
  assert.equal(bytes.length, 1000)
  assert.match(String(error), /sent nothing for 45 s/)
  assert.equal(clock.sleepers, 0, 'no timer is left')
})

test('an upstream that stalls again before it has sent a byte is given up, and one that sends some is not', async () => {
  const blob = makeBlob(SIZE)
  const clock = FakeClock.skipDelays()
  const stall = async function* (piece: Uint8Array): AsyncGenerator<Uint8Array> {
    if (piece.byteLength > 0) yield piece
    await settle()
    throw new UpstreamError('stalled', 'stopped sending')
  }
  const run = async (
    steps: readonly number[],
  ): Promise<{ readonly bytes: Buffer; readonly error: unknown }> => {
    const registry = new FakeRegistry({
      getBlob: ({ offset }, attempt) => {
        const count = steps[attempt]
        if (count === undefined) return blobBody(blob.bytes, { offset })
        return stallingBody(blob.bytes, offset, stall(blob.bytes.subarray(offset, offset + count)))
      },
    })
    const wanted = { source: sourceOf(registry), digest: blob.digest }
    const start = Download.start(blob.digest)
    const parts = { events: seeEvents().events, clock }
    const running = new Download(parts, wanted, start, new AbortController().signal)
    await running.open()
    return await collectUntilFailure(each(running))
  }
  const given = await run([1000, 0])
  assert.equal(given.bytes.length, 1000)
  assert.equal(kindOf(given.error), 'stalled')
  const whole = await run([1000, 1000, 1000])
  assert.equal(whole.error, undefined)
  assert.ok(whole.bytes.equals(blob.bytes))
})

test('the memory of chunks is freed once they are hashed, if nobody else has or uses it', async () => {
  const blob = makeBlob(SIZE)
  for (const [areChunksOurs, isOver, isFreed] of [
    [true, true, true],
    [true, false, false],
    [undefined, true, false],
  ] as const) {
    const chunk = Uint8Array.from(blob.bytes)
    const registry = new FakeRegistry({
      getBlob: () => ({
        ...stallingBody(blob.bytes, 0, Readable.from([chunk], { objectMode: true })),
        ...(areChunksOurs === undefined ? {} : { areChunksOurs }),
      }),
    })
    const parts = { events: seeEvents().events, clock: new FakeClock() }
    const wanted = { source: sourceOf(registry), digest: blob.digest }
    const running = new Download(parts, wanted, Download.start(blob.digest), new AbortController().signal)
    await running.open()
    for await (const [first] of running.chunks({ isOver })) assert.equal(first?.byteLength, SIZE)
    assert.equal(chunk.byteLength, isFreed ? 0 : SIZE)
  }
})
