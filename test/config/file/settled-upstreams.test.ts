import assert from 'node:assert/strict'
import { mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { loadSettledUpstreams } from '../../../src/config/file/watch.ts'
import type { Clock } from '../../../src/lib/clock.ts'

const ONE = '- namespace: one.example.com\n  host: one.example.com\n'
const TWO = `${ONE}- namespace: two.example.com\n  host: two.example.com\n`

let directory: string

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'entrepot-settled-'))
})

after(async () => {
  await rm(directory, { recursive: true })
})

/** A clock on which each delay writes the next text into the file instead of waiting. */
class WritingClock implements Clock {
  readonly delays: number[] = []
  readonly #file: string
  readonly #texts: string[]
  readonly #wallMs: number

  constructor(file: string, texts: readonly string[], wallMs: number) {
    this.#file = file
    this.#texts = [...texts]
    this.#wallMs = wallMs
  }

  wallMs(): number {
    return this.#wallMs
  }

  monotonicMs(): number {
    return 0
  }

  async delay(ms: number): Promise<void> {
    this.delays.push(ms)
    const text = this.#texts.shift()
    if (text !== undefined) await writeFile(this.#file, text)
  }
}

interface Loaded {
  readonly namespaces: readonly string[]
  readonly delays: readonly number[]
}

/** Loads a file that has the first text now, and the others after each delay. */
async function load(texts: readonly string[], isFresh: boolean, inForce = 2): Promise<Loaded> {
  const file = join(directory, 'upstreams.yaml')
  const [first = '', ...later] = texts
  await writeFile(file, first)
  const writtenMs = Date.UTC(2026, 0, 1)
  await utimes(file, writtenMs / 1000, writtenMs / 1000)
  const clock = new WritingClock(file, later, writtenMs + (isFresh ? 10 : 60_000))
  const { upstreams } = await loadSettledUpstreams(
    { file, credentials: new Map(), inForce, rulesInForce: 0 },
    clock,
  )
  return { namespaces: upstreams.map(({ namespace }) => namespace), delays: clock.delays }
}

test('a file that was written long ago is loaded at once', async () => {
  assert.deepEqual(await load([ONE], false), { namespaces: ['one.example.com'], delays: [] })
})

test('a file that was just written is read again until it stops changing', async () => {
  const { namespaces, delays } = await load([ONE, TWO], true)
  assert.deepEqual(namespaces, ['one.example.com', 'two.example.com'])
  assert.equal(delays[0], 200)
})

for (const text of ['', '# nothing yet\n', '[]\n']) {
  test(`${JSON.stringify(text)} in place of entries is accepted only after a second without change`, async () => {
    assert.deepEqual(await load([text], false), { namespaces: [], delays: [1000] })
    const { namespaces } = await load([text, TWO], false)
    assert.deepEqual(namespaces, ['one.example.com', 'two.example.com'])
  })
}

test('an empty file is loaded at once if there were no entries before', async () => {
  assert.deepEqual(await load([''], false, 0), { namespaces: [], delays: [] })
})
