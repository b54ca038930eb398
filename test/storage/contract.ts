import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { describe, it, type TestContext } from 'node:test'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { parseRepositoryName, parseTag } from '../../src/oci/name.ts'
import { parseNamespace } from '../../src/oci/namespace.ts'
import { newUploadId } from '../../src/oci/upload-id.ts'
import type {
  RecordGroup,
  RecordName,
  SpoolFile,
  Store,
  StoredObject,
  StoreWrite,
} from '../../src/storage/store.ts'

/** A store that a test has for itself, and how to be rid of it. */
export interface OpenedStore {
  readonly store: Store
  readonly cleanup: () => Promise<void>
  /**
   * Whether an open handle may throw once its content was deleted: where others can delete, there is nothing
   * to hold on to.
   */
  readonly mayLoseHandles?: boolean
}

/** Returns the value, and fails the test where there is none. */
export function defined<T>(value: T | undefined): T {
  assert.ok(value !== undefined)
  return value
}

/** A tag's name as a record, made from text. */
export function tagRecord(tag: string, repository = 'library/tools', namespace = 'docker.io'): RecordName {
  return {
    kind: 'tag',
    namespace: defined(parseNamespace(namespace)),
    repository: defined(parseRepositoryName(repository)),
    tag: defined(parseTag(tag)),
  }
}

/** A link's name as a record, made from text. */
export function linkRecord(
  digest: Digest,
  repository = 'library/tools',
  namespace = 'docker.io',
): RecordName {
  return {
    kind: 'link',
    namespace: defined(parseNamespace(namespace)),
    repository: defined(parseRepositoryName(repository)),
    digest,
  }
}

/** Random bytes and their digest. */
export function sample(sizeBytes: number): { readonly bytes: Buffer; readonly digest: Digest } {
  const bytes = randomBytes(sizeBytes)
  return { bytes, digest: digestOf(bytes) }
}

/** Stores bytes under their digest as a fill would. */
export async function put(store: Store, digest: Digest, bytes: Uint8Array): Promise<void> {
  await using spool = await store.createSpool(digest)
  await spool.append(bytes)
  await store.adopt(spool, digest, bytes.length)
}

/** Reads all of an object, each piece before the next is asked for. */
export async function readAll(object: StoredObject, start = 0, end = object.sizeBytes): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of object.read(start, end)) {
    assert.ok(piece.length > 0 && piece.length <= 1024 * 1024, `a piece of ${piece.length} bytes`)
    pieces.push(Buffer.from(piece))
  }
  return Buffer.concat(pieces)
}

/** Reads all that lies under a digest; `undefined` if nothing does. */
export async function get(store: Store, digest: Digest): Promise<Buffer | undefined> {
  await using object = await store.open(digest)
  return object === undefined ? undefined : await readAll(object)
}

/** Reads all that a spool holds. */
export async function readSpool(spool: SpoolFile): Promise<Buffer> {
  const bytes = Buffer.alloc(spool.sizeBytes)
  let filled = 0
  while (filled < bytes.length) {
    const count = await spool.read(bytes.subarray(filled), filled)
    assert.ok(count > 0)
    filled += count
  }
  return bytes
}

/** Leaves a partial fill behind. */
async function leave(store: Store, digest: Digest, bytes: Uint8Array): Promise<void> {
  await using spool = await store.createSpool(digest)
  await spool.clear()
  await spool.append(bytes)
  spool.keep()
}

/** Proves the contract of {@link Store}, sentence by sentence, for one implementation. */
export function storeContract(name: string, open: () => Promise<OpenedStore>): void {
  const withStore: WithStore = (title, body) => {
    it(title, async (t: TestContext) => {
      const { store, cleanup, mayLoseHandles = false } = await open()
      t.after(cleanup)
      await body(store, mayLoseHandles)
      await store[Symbol.asyncDispose]()
    })
  }
  describe(`${name}: content`, { concurrency: true }, () => contentContract(withStore))
  describe(`${name}: reading`, { concurrency: true }, () => readingContract(withStore))
  describe(`${name}: spools`, { concurrency: true }, () => spoolContract(withStore))
  describe(`${name}: records`, { concurrency: true }, () => recordContract(withStore))
  describe(`${name}: creations`, { concurrency: true }, () => creationContract(withStore))
  describe(`${name}: steps`, { concurrency: true }, () => stepContract(withStore))
  describe(`${name}: walks`, { concurrency: true }, () => walkContract(withStore))
  describe(`${name}: uploads`, { concurrency: true }, () => uploadContract(withStore))
  describe(`${name}: groups of records`, { concurrency: true }, () => groupContract(withStore))
}

type WithStore = (title: string, body: (store: Store, mayLoseHandles: boolean) => Promise<void>) => void

/** Reads all of an object that is not visible any more. */
async function readLost(object: StoredObject, bytes: Buffer, mayLoseHandles: boolean): Promise<void> {
  const read = await readAll(object).catch((error: unknown) => {
    if (!mayLoseHandles) throw error
    return undefined
  })
  if (read !== undefined) assert.ok(read.equals(bytes))
}

function walkContract(withStore: WithStore): void {
  withStore('a walk names all content with its size, and nothing that was deleted', async store => {
    const samples = [sample(0), sample(10), sample(70_000)]
    const long = { bytes: Buffer.from('long'), digest: digestOf(Buffer.from('long'), 'sha512') }
    const gone = sample(20)
    for (const { digest, bytes } of [...samples, long, gone]) await put(store, digest, bytes)
    await store.delete(gone.digest)
    const found = new Map<Digest, number>()
    for await (const entry of store.list()) {
      found.set(entry.digest, entry.sizeBytes)
      assert.ok(Math.abs(entry.storedAtMs - Date.now()) < 600_000)
    }
    assert.deepEqual(found, new Map([...samples, long].map(({ digest, bytes }) => [digest, bytes.length])))
  })

  withStore('a walk of records names every tag and link as it was written', async store => {
    const names = [
      tagRecord('1'),
      tagRecord('_tags', 'a/b', 'registry.example.com:5000'),
      linkRecord(sample(1).digest),
      linkRecord(digestOf(Buffer.from('x'), 'sha512'), 'deep/er/name', 'ghcr.io'),
    ]
    for (const name of names) await store.writeRecord(name, Buffer.from('x'), 'relaxed')
    const found: RecordName[] = []
    for await (const name of store.listRecords()) found.push(name)
    const byText = (name: RecordName): string => JSON.stringify(name, Object.keys(name).sort())
    assert.deepEqual(found.map(byText).sort(), names.map(byText).sort())
  })

  withStore('an empty store walks over nothing, and room is a whole or unknown', async store => {
    for await (const entry of store.list()) assert.fail(`found ${entry.digest}`)
    for await (const name of store.listRecords()) assert.fail(`found ${name.kind}`)
    const room = await store.measureRoom()
    assert.ok(room === undefined || (room.freeBytes >= 0 && room.totalBytes >= room.freeBytes))
  })
}

function contentContract(withStore: WithStore): void {
  withStore('content that was never stored is absent', async store => {
    assert.equal(await store.open(sample(16).digest), undefined)
  })

  withStore('content is absent while it is spooled, and whole once it is adopted', async store => {
    const { bytes, digest } = sample(300_000)
    await using spool = await store.createSpool(digest)
    await spool.append(bytes)
    assert.equal(await store.open(digest), undefined)
    await store.adopt(spool, digest, bytes.length)
    await using object = defined(await store.open(digest))
    assert.equal(object.sizeBytes, bytes.length)
    assert.ok((await readAll(object)).equals(bytes))
  })

  withStore('content of no bytes is content', async store => {
    const digest = digestOf(Buffer.alloc(0))
    await put(store, digest, Buffer.alloc(0))
    await using object = defined(await store.open(digest))
    assert.equal(object.sizeBytes, 0)
    assert.equal((await readAll(object)).length, 0)
  })

  withStore('content under a SHA-512 digest is apart from that under a SHA-256 one', async store => {
    const { bytes, digest } = sample(1_000)
    const long = digestOf(bytes, 'sha512')
    await put(store, long, bytes)
    assert.equal(await store.open(digest), undefined)
    assert.ok(defined(await get(store, long)).equals(bytes))
  })

  for (const wrong of [-1, 1]) {
    withStore(
      `adopting ${wrong} byte is refused, shows nothing, and leaves the spool usable`,
      async store => {
        const { bytes, digest } = sample(70_000)
        await using spool = await store.createSpool(digest)
        await spool.append(bytes)
        await assert.rejects(store.adopt(spool, digest, bytes.length + wrong), /cannot be adopted/)
        assert.equal(await store.open(digest), undefined)
        await store.adopt(spool, digest, bytes.length)
        assert.ok(defined(await get(store, digest)).equals(bytes))
      },
    )
  }

  withStore('a spool is adopted once, and takes no bytes afterwards', async store => {
    const { bytes, digest } = sample(10)
    await using spool = await store.createSpool(digest)
    await spool.append(bytes)
    await store.adopt(spool, digest, bytes.length)
    await assert.rejects(spool.append(Buffer.from('more')))
    await assert.rejects(spool.clear())
    await assert.rejects(store.adopt(spool, digest, bytes.length))
    assert.ok(defined(await get(store, digest)).equals(bytes))
  })

  withStore(
    'an adopted spool stays readable until it is disposed of, and its content after that',
    async store => {
      const { bytes, digest } = sample(100_000)
      const spool = await store.createSpool(digest)
      await spool.append(bytes)
      await store.adopt(spool, digest, bytes.length)
      assert.ok((await readSpool(spool)).equals(bytes))
      await store.delete(digest)
      assert.ok((await readSpool(spool)).equals(bytes))
      await spool[Symbol.asyncDispose]()
      assert.equal(await get(store, digest), undefined)
      await put(store, digest, bytes)
      assert.ok(defined(await get(store, digest)).equals(bytes))
    },
  )

  withStore(
    'sixteen spools of one digest are adopted at once, and every reader sees all bytes',
    async store => {
      const { bytes, digest } = sample(200_000)
      const done = new AbortController()
      const reader = async (): Promise<number> => {
        let seen = 0
        while (!done.signal.aborted) {
          const read = await get(store, digest)
          if (read === undefined) continue
          assert.ok(read.equals(bytes))
          seen += 1
        }
        return seen
      }
      const readers = [reader(), reader()]
      await Promise.all(Array.from({ length: 16 }, async () => put(store, digest, bytes)))
      done.abort()
      await Promise.all(readers)
      assert.ok(defined(await get(store, digest)).equals(bytes))
    },
  )

  withStore(
    'adopting replaces what lies under the digest, and an open handle reads the old bytes or breaks',
    async (store, mayLoseHandles) => {
      const { bytes, digest } = sample(50_000)
      const damaged = Buffer.from(bytes)
      damaged.fill(0, 100, 200)
      await put(store, digest, damaged)
      await using old = defined(await store.open(digest))
      await put(store, digest, bytes)
      await readLost(old, damaged, mayLoseHandles)
      await using healed = defined(await store.open(digest))
      assert.ok((await readAll(healed)).equals(bytes))
      assert.notEqual(healed.version, old.version)
    },
  )

  withStore('the version of untouched content is the same each time it is opened', async store => {
    const { bytes, digest } = sample(5_000)
    await put(store, digest, bytes)
    await using first = defined(await store.open(digest))
    await readAll(first)
    await using second = defined(await store.open(digest))
    assert.equal(second.version, first.version)
  })

  withStore(
    'deleted content is absent, its open handle reads on or breaks, and a second delete finds none',
    async (store, mayLoseHandles) => {
      const { bytes, digest } = sample(600_000)
      await put(store, digest, bytes)
      await using object = defined(await store.open(digest))
      assert.equal(await store.delete(digest), true)
      assert.equal(await store.open(digest), undefined)
      await readLost(object, bytes, mayLoseHandles)
      assert.equal(await store.delete(digest), false)
    },
  )

  withStore(
    'quarantined content is absent until it is filled again, and its open handle reads on or breaks',
    async (store, mayLoseHandles) => {
      const { bytes, digest } = sample(600_000)
      await put(store, digest, bytes)
      await using object = defined(await store.open(digest))
      await store.quarantine(digest)
      assert.equal(await store.open(digest), undefined)
      await readLost(object, bytes, mayLoseHandles)
      await put(store, digest, bytes)
      assert.ok(defined(await get(store, digest)).equals(bytes))
    },
  )

  withStore('quarantining what is absent is no error', async store => {
    const { digest } = sample(16)
    await store.quarantine(digest)
    assert.equal(await store.open(digest), undefined)
  })

  withStore('a probe of a working store resolves, also many at once', async store => {
    const results = await Promise.all(Array.from({ length: 20 }, async () => store.probe()))
    assert.equal(results.length, 20)
  })
}

const SIZE = 1_300_000

const RANGES: readonly (readonly [start: number, end: number])[] = [
  [0, 0],
  [0, 1],
  [SIZE - 1, SIZE],
  [SIZE, SIZE],
  [262_143, 262_145],
  [0, 262_144],
  [1, 524_289],
  [100_000, 1_200_000],
  [0, SIZE],
]

function readingContract(withStore: WithStore): void {
  withStore('a range gives exactly its bytes, in order, in pieces of at most 1 MiB', async store => {
    const { bytes, digest } = sample(SIZE)
    await put(store, digest, bytes)
    await using object = defined(await store.open(digest))
    for (const [start, end] of RANGES) {
      const read = await readAll(object, start, end)
      assert.ok(read.equals(bytes.subarray(start, end)), `[${start}, ${end})`)
    }
  })

  withStore('a piece keeps its bytes until the next is asked for, however long that takes', async store => {
    const { bytes, digest } = sample(SIZE)
    await put(store, digest, bytes)
    await using object = defined(await store.open(digest))
    let position = 0
    for await (const piece of object.read(0, SIZE)) {
      // Other reads come and go meanwhile, and a read-ahead has every chance to end.
      await readAll(object, 0, 1_000_000)
      assert.ok(bytes.subarray(position, position + piece.length).equals(piece))
      position += piece.length
    }
    assert.equal(position, SIZE)
  })

  withStore('several reads of one object run at once', async store => {
    const { bytes, digest } = sample(SIZE)
    await put(store, digest, bytes)
    await using object = defined(await store.open(digest))
    const read = await Promise.all(
      RANGES.map(async ([start, end]) => ({ start, end, bytes: await readAll(object, start, end) })),
    )
    for (const part of read) assert.ok(part.bytes.equals(bytes.subarray(part.start, part.end)))
  })

  withStore('a reader may leave early, and another read of the object is none the worse', async store => {
    const { bytes, digest } = sample(SIZE)
    await put(store, digest, bytes)
    await using object = defined(await store.open(digest))
    for await (const piece of object.read(0, SIZE)) {
      assert.ok(bytes.subarray(0, piece.length).equals(piece))
      break
    }
    assert.ok((await readAll(object)).equals(bytes))
  })

  withStore('asking for bytes beyond the end throws', async store => {
    const { bytes, digest } = sample(1_000)
    await put(store, digest, bytes)
    await using object = defined(await store.open(digest))
    await assert.rejects(readAll(object, 0, 1_001))
    await assert.rejects(readAll(object, 1_001, 1_001))
  })
}

function spoolContract(withStore: WithStore): void {
  withStore('a new spool is empty, and grows by what is appended', async store => {
    const { bytes, digest } = sample(1_000)
    await using spool = await store.createSpool(digest)
    assert.equal(spool.sizeBytes, 0)
    const chunk = Buffer.from(bytes.subarray(0, 400))
    await spool.append(chunk)
    // The chunk is the caller's again.
    chunk.fill(0)
    assert.equal(spool.sizeBytes, 400)
    await spool.append(bytes.subarray(400, 600), bytes.subarray(600, 600), bytes.subarray(600))
    assert.equal(spool.sizeBytes, 1_000)
    assert.ok((await readSpool(spool)).equals(bytes))
  })

  withStore('reading ends where the written bytes end', async store => {
    const { bytes, digest } = sample(1_000)
    await using spool = await store.createSpool(digest)
    await spool.append(bytes)
    const buffer = Buffer.alloc(600)
    assert.equal(await spool.read(buffer, 900), 100)
    assert.ok(buffer.subarray(0, 100).equals(bytes.subarray(900)))
    assert.equal(await spool.read(buffer, 1_000), 0)
  })

  withStore('many read while one appends, and each sees the bytes as they were appended', async store => {
    const { bytes, digest } = sample(400_000)
    await using spool = await store.createSpool(digest)
    const follow = async (stepBytes: number): Promise<Buffer> => {
      const seen = Buffer.alloc(bytes.length)
      let position = 0
      while (position < bytes.length) {
        const end = Math.min(position + stepBytes, spool.sizeBytes)
        if (end === position) await new Promise(resolve => void setImmediate(resolve))
        else position += await spool.read(seen.subarray(position, end), position)
      }
      return seen
    }
    const followers = [7_001, 65_536, 400_000].map(follow)
    for (let start = 0; start < bytes.length; start += 9_973) {
      await spool.append(bytes.subarray(start, start + 9_973))
    }
    for (const seen of await Promise.all(followers)) assert.ok(seen.equals(bytes))
  })

  withStore('two spools of one digest know nothing of each other', async store => {
    const { bytes, digest } = sample(1_000)
    await using one = await store.createSpool(digest)
    await using another = await store.createSpool(digest)
    await one.append(Buffer.from('something else'))
    await another.append(bytes)
    assert.equal((await readSpool(one)).toString(), 'something else')
    await store.adopt(another, digest, bytes.length)
    assert.equal((await readSpool(one)).toString(), 'something else')
    assert.ok(defined(await get(store, digest)).equals(bytes))
  })

  withStore('a cleared spool is empty and can be filled anew', async store => {
    const { bytes, digest } = sample(1_000)
    await using spool = await store.createSpool(digest)
    await spool.append(Buffer.alloc(5_000, 'x'))
    await spool.clear()
    assert.equal(spool.sizeBytes, 0)
    await spool.append(bytes)
    await store.adopt(spool, digest, bytes.length)
    assert.ok(defined(await get(store, digest)).equals(bytes))
  })

  withStore('a spool that was not adopted leaves nothing when it is disposed of, even twice', async store => {
    const { bytes, digest } = sample(1_000)
    const spool = await store.createSpool(digest)
    await spool.append(bytes)
    await spool[Symbol.asyncDispose]()
    await spool[Symbol.asyncDispose]()
    assert.equal(await store.open(digest), undefined)
    await using next = await store.createSpool(digest)
    assert.equal(next.sizeBytes, 0)
  })

  withStore(
    'a spool that is kept is continued by the next fill of its digest and of no other',
    async store => {
      const { bytes, digest } = sample(1_000)
      await leave(store, digest, bytes.subarray(0, 600))
      await using other = await store.createSpool(sample(16).digest)
      assert.equal(other.sizeBytes, 0)
      await using spool = await store.createSpool(digest)
      assert.ok((await readSpool(spool)).equals(bytes.subarray(0, 600)))
      await spool.append(bytes.subarray(600))
      await store.adopt(spool, digest, bytes.length)
      assert.ok(defined(await get(store, digest)).equals(bytes))
    },
  )

  withStore('what a claimant keeps is continued by him, and by nobody else', async store => {
    const { bytes, digest } = sample(1_000)
    const sizeFor = async (claimant?: string): Promise<number> => {
      await using spool = await store.createSpool(digest, claimant)
      const { sizeBytes } = spool
      await spool.clear()
      await spool.append(bytes.subarray(0, claimant === undefined ? 100 : 200 + claimant.length))
      spool.keep()
      return sizeBytes
    }
    const sizes: number[] = []
    for (const claimant of [undefined, 'a/b', 'a/bc', undefined, 'a/b', 'a/bc'])
      sizes.push(await sizeFor(claimant))
    assert.deepEqual(sizes, [0, 0, 0, 100, 203, 204])
  })

  withStore('of twenty fills that start at once, exactly one has the leftover', async store => {
    const { bytes, digest } = sample(1_000)
    await leave(store, digest, bytes)
    const spools = await Promise.all(Array.from({ length: 20 }, async () => store.createSpool(digest)))
    const sizes = spools.map(spool => spool.sizeBytes).filter(size => size > 0)
    await Promise.all(spools.map(async spool => spool[Symbol.asyncDispose]()))
    assert.deepEqual(sizes, [1_000])
  })

  withStore('a leftover that is continued and not kept again is gone', async store => {
    const { bytes, digest } = sample(1_000)
    await leave(store, digest, bytes)
    await (await store.createSpool(digest))[Symbol.asyncDispose]()
    await using spool = await store.createSpool(digest)
    assert.equal(spool.sizeBytes, 0)
  })

  withStore('a leftover can be cleared, and what is kept then is the new one', async store => {
    const { bytes, digest } = sample(1_000)
    await leave(store, digest, Buffer.alloc(2_000))
    await leave(store, digest, bytes)
    await using spool = await store.createSpool(digest)
    assert.ok((await readSpool(spool)).equals(bytes))
  })

  withStore(
    'an empty spool that is kept, and an adopted one, leave nothing for the next fill',
    async store => {
      const { bytes, digest } = sample(1_000)
      await leave(store, digest, Buffer.alloc(0))
      const spool = await store.createSpool(digest)
      assert.equal(spool.sizeBytes, 0)
      await spool.append(bytes)
      spool.keep()
      await store.adopt(spool, digest, bytes.length)
      await spool[Symbol.asyncDispose]()
      await using next = await store.createSpool(digest)
      assert.equal(next.sizeBytes, 0)
      assert.ok(defined(await get(store, digest)).equals(bytes))
    },
  )
}

function creationContract(withStore: WithStore): void {
  withStore('a record is created once, and later callers get what is there', async store => {
    const name = tagRecord('once')
    assert.deepEqual(await store.createRecord(name, Buffer.from('first')), { kind: 'created' })
    for (const text of ['second', 'first', '']) {
      const creation = await store.createRecord(name, Buffer.from(text))
      assert.ok(creation.kind === 'exists')
      assert.equal(Buffer.from(creation.bytes).toString(), 'first')
    }
    assert.equal(Buffer.from(defined(await store.readRecord(name))).toString(), 'first')
  })

  withStore('of many that create a record at once one does, and all others get its bytes', async store => {
    for (const [round, texts] of [['a', 'b', 'c', 'd', 'e', 'f'], Array<string>(6).fill('same')].entries()) {
      const name = tagRecord(`raced-${round}`)
      const results = await Promise.all(
        texts.map(async text => ({ text, creation: await store.createRecord(name, Buffer.from(text)) })),
      )
      const winners = results.filter(({ creation }) => creation.kind === 'created')
      assert.equal(winners.length, 1)
      const seen = results.flatMap(({ creation }) => (creation.kind === 'exists' ? [creation.bytes] : []))
      for (const bytes of [...seen, defined(await store.readRecord(name))])
        assert.equal(Buffer.from(bytes).toString(), winners[0]?.text)
    }
  })

  withStore('a record that was written is not created, and one that was deleted is', async store => {
    const name = tagRecord('written')
    await store.writeRecord(name, Buffer.from('written'), 'relaxed')
    const creation = await store.createRecord(name, Buffer.from('created'))
    assert.ok(creation.kind === 'exists')
    assert.equal(Buffer.from(creation.bytes).toString(), 'written')
    await store.deleteRecord(name)
    assert.equal((await store.createRecord(name, Buffer.from('created'))).kind, 'created')
  })

  withStore('a record that is too large is not created', async store => {
    const name = tagRecord('large')
    await assert.rejects(store.createRecord(name, Buffer.alloc(64 * 1024 + 1)), RangeError)
    assert.equal(await store.readRecord(name), undefined)
  })

  withStore('an absent record has no age, and one that was just written is young', async store => {
    const name = tagRecord('aged')
    assert.equal(await store.readAgedRecord(name), undefined)
    await store.writeRecord(name, Buffer.from('young'), 'relaxed')
    const { bytes, ageMs } = defined(await store.readAgedRecord(name))
    assert.equal(Buffer.from(bytes).toString(), 'young')
    assert.ok(ageMs >= 0 && ageMs < 60_000, `${ageMs} ms`)
  })
}

function stepContract(withStore: WithStore): void {
  withStore('steps write a record, content and an adopted upload, and all of it is there', async store => {
    const [manifest, blob] = [sample(700), sample(300_000)]
    await using spool = await store.createUpload(newUploadId())
    await spool.append(blob.bytes)
    const upload = { kind: 'spool', digest: blob.digest, spool, sizeBytes: blob.bytes.length } as const
    await store.writeSteps([[upload], [recordWrite('one', 'first')]], 'durable')
    await store.writeSteps(
      [
        [recordWrite('empty', ''), { kind: 'content', ...manifest }],
        [recordWrite('one', 'second')],
        [recordWrite('two', 'third'), recordWrite('three', 'fourth')],
      ],
      'durable',
    )
    assert.deepEqual(await get(store, blob.digest), blob.bytes)
    assert.deepEqual(await get(store, manifest.digest), manifest.bytes)
    const names = ['one', 'none', 'empty', 'two', 'three'].map(tag => tagRecord(tag))
    const texts = (await store.readRecords(names)).map(bytes => bytes && Buffer.from(bytes).toString())
    assert.deepEqual(texts, ['second', undefined, '', 'third', 'fourth'])
    assert.deepEqual(await store.hasRecords(names), [true, false, true, true, true])
    assert.deepEqual(await store.hasRecords([]), [])
  })

  withStore(
    'what is there already is written again, also as empty, and only once for many at a time',
    async store => {
      const { bytes, digest } = sample(1000)
      const write = async (): Promise<void> =>
        await store.writeSteps([[{ kind: 'content', digest, bytes }], [recordWrite('one', '')]], 'ordered')
      await store.writeRecord(tagRecord('one'), Buffer.from('longer'), 'relaxed')
      await Promise.all(Array.from({ length: 8 }, write))
      assert.deepEqual(await get(store, digest), bytes)
      assert.equal(defined(await store.readRecord(tagRecord('one'))).length, 0)
    },
  )

  withStore('a record that is too large is refused before any step is written', async store => {
    const large = { kind: 'record', name: tagRecord('large'), bytes: Buffer.alloc(64 * 1024 + 1) } as const
    await assert.rejects(store.writeSteps([[large]], 'durable'), RangeError)
    assert.equal(await store.readRecord(tagRecord('large')), undefined)
  })
}

function recordWrite(tag: string, text: string): StoreWrite {
  return { kind: 'record', name: tagRecord(tag), bytes: Buffer.from(text) }
}

function recordContract(withStore: WithStore): void {
  withStore('a record that was never written is absent', async store => {
    assert.equal(await store.readRecord(tagRecord('latest')), undefined)
    assert.equal(await store.readRecord(linkRecord(sample(16).digest)), undefined)
  })

  for (const durability of ['durable', 'relaxed'] as const) {
    withStore(`a ${durability} record is read as it was written last, and can be empty`, async store => {
      const name = tagRecord('latest')
      for (const text of ['one', '', 'a longer value than before', 'two']) {
        await store.writeRecord(name, Buffer.from(text), durability)
        assert.equal(Buffer.from(defined(await store.readRecord(name))).toString(), text)
      }
    })
  }

  withStore('records of different names are apart', async store => {
    const { digest } = sample(16)
    const names = [
      tagRecord('latest'),
      tagRecord('Latest'),
      tagRecord('_tags'),
      tagRecord('latest', 'library'),
      tagRecord('latest', 'library/tools/latest'),
      tagRecord('latest', 'tools', 'example.com:5000'),
      linkRecord(digest),
      linkRecord(digest, 'library'),
      linkRecord(digestOf(Buffer.from('x'), 'sha512')),
    ]
    for (const [index, name] of names.entries()) {
      await store.writeRecord(name, Buffer.from(`${index}`), 'relaxed')
    }
    for (const [index, name] of names.entries()) {
      assert.equal(Buffer.from(defined(await store.readRecord(name))).toString(), `${index}`)
    }
  })

  withStore(
    'a record belongs to the store: neither writer nor reader can change it afterwards',
    async store => {
      const name = tagRecord('latest')
      const bytes = Buffer.from('value')
      await store.writeRecord(name, bytes, 'relaxed')
      bytes.fill(0)
      const read = defined(await store.readRecord(name))
      assert.equal(Buffer.from(read).toString(), 'value')
      read.fill(0)
      assert.equal(Buffer.from(defined(await store.readRecord(name))).toString(), 'value')
    },
  )

  withStore(
    'readers of a record see a whole old or a whole new value while writers replace it',
    async store => {
      const name = tagRecord('latest')
      const valueOf = (round: number): Buffer => {
        const body = Buffer.alloc(round % 2 === 0 ? 60_000 : 500, `${round} `)
        return Buffer.concat([createHash('sha256').update(body).digest(), body])
      }
      await store.writeRecord(name, valueOf(0), 'relaxed')
      const done = new AbortController()
      const reader = async (): Promise<void> => {
        while (!done.signal.aborted) {
          const bytes = Buffer.from(defined(await store.readRecord(name)))
          const sum = createHash('sha256').update(bytes.subarray(32)).digest()
          assert.ok(sum.equals(bytes.subarray(0, 32)))
        }
      }
      const readers = [reader(), reader(), reader()]
      for (let round = 1; round <= 30; round += 2) {
        const [one, another] = [valueOf(round), valueOf(round + 1)]
        await Promise.all([
          store.writeRecord(name, one, 'relaxed'),
          store.writeRecord(name, another, 'durable'),
        ])
      }
      done.abort()
      await Promise.all(readers)
    },
  )

  withStore('a record of 64 KiB is stored, and one byte more is refused and changes nothing', async store => {
    const name = tagRecord('latest')
    const largest = randomBytes(64 * 1024)
    await store.writeRecord(name, largest, 'durable')
    await assert.rejects(store.writeRecord(name, Buffer.alloc(64 * 1024 + 1), 'durable'), /too large/)
    assert.ok(largest.equals(defined(await store.readRecord(name))))
  })

  withStore('a deleted record is absent, and a second delete finds none', async store => {
    const name = linkRecord(sample(16).digest)
    await store.writeRecord(name, Buffer.from('x'), 'relaxed')
    assert.equal(await store.deleteRecord(name), true)
    assert.equal(await store.readRecord(name), undefined)
    assert.equal(await store.deleteRecord(name), false)
  })
}

function uploadContract(withStore: WithStore): void {
  withStore('an upload is left as it was written, and its next owner appends to it', async store => {
    const id = newUploadId()
    const { bytes, digest } = sample(300_000)
    {
      await using upload = await store.createUpload(id)
      await upload.append(bytes.subarray(0, 100_000))
      await upload.sync()
    }
    await using upload = defined(await store.openUpload(id, 0))
    assert.equal(upload.sizeBytes, 100_000)
    await upload.append(bytes.subarray(100_000))
    assert.deepEqual(await readSpool(upload), bytes)
    await store.adopt(upload, digest, bytes.length)
    assert.deepEqual(await get(store, digest), bytes)
  })

  withStore('nothing is left of an upload that was adopted or removed', async store => {
    const { bytes, digest } = sample(1000)
    const [adopted, removed] = [newUploadId(), newUploadId()]
    {
      await using upload = await store.createUpload(adopted)
      await upload.append(bytes)
      await store.adopt(upload, digest, bytes.length)
    }
    const upload = await store.createUpload(removed)
    await upload.append(bytes)
    await upload.remove()
    assert.equal(await store.openUpload(adopted, 0), undefined)
    assert.equal(await store.openUpload(removed, 0), undefined)
    assert.equal(await store.openUpload(newUploadId(), 0), undefined)
  })

  withStore('an upload that is cut off goes on from there', async store => {
    const { bytes, digest } = sample(5000)
    await using upload = await store.createUpload(newUploadId())
    await upload.append(bytes.subarray(0, 3000))
    await upload.append(Buffer.alloc(700))
    await upload.truncate(3000)
    assert.equal(upload.sizeBytes, 3000)
    await upload.append(bytes.subarray(3000))
    await store.adopt(upload, digest, bytes.length)
    assert.deepEqual(await get(store, digest), bytes)
  })
}

/** A place, and digests for records of hosted repositories. */
function hostedRecords(): {
  readonly records: readonly RecordName[]
  readonly groups: readonly RecordGroup[]
} {
  const place = {
    namespace: defined(parseNamespace('registry.example.com:5000')),
    repository: defined(parseRepositoryName('team/app')),
  }
  const other = { ...place, repository: defined(parseRepositoryName('team/app/more')) }
  const [one, two] = [digestOf(Buffer.from('1')), digestOf(Buffer.from('2'), 'sha512')]
  const [tag, later, id] = [defined(parseTag('v1.0')), defined(parseTag('v1.0.1')), newUploadId()]
  const records = [place, other].flatMap((at): RecordName[] => [
    { kind: 'hosted-repository', ...at },
    { kind: 'hosted-tag', ...at, tag },
    { kind: 'hosted-tagged', ...at, digest: one, tag },
    { kind: 'hosted-manifest', ...at, digest: one },
    { kind: 'hosted-blob', ...at, digest: two },
    { kind: 'hosted-referrer', ...at, digest: one, referrer: two },
    { kind: 'hosted-hold', ...at, digest: two },
    { kind: 'hosted-hold', ...at, digest: two, by: one },
    { kind: 'move', ...at, tag, id: '001767225600000-0001deadbeef' },
    { kind: 'move', ...at, tag: later, id: '001767225600001-0002deadbeef' },
  ])
  const groups: RecordGroup[] = [
    { kind: 'hosted-repository' },
    { kind: 'hosted-upload' },
    { kind: 'hosted-tag', ...place },
    { kind: 'hosted-manifest', ...place },
    { kind: 'hosted-blob', ...place },
    { kind: 'hosted-referrer', ...place, digest: one },
    { kind: 'hosted-tagged', ...place, digest: one },
    { kind: 'hosted-hold', digest: two },
    { kind: 'move', ...place },
    { kind: 'move', ...place, tag },
  ]
  return { records: [...records, { kind: 'hosted-upload', id }], groups }
}

/** True if a record belongs to a group, told from their members alone. */
function isIn(record: RecordName, group: RecordGroup): boolean {
  return Object.entries(group).every(
    ([member, value]) => (record as Record<string, unknown>)[member] === value,
  )
}

async function namesOf(listed: AsyncIterable<RecordName>): Promise<string[]> {
  const names: string[] = []
  for await (const name of listed) names.push(JSON.stringify(name))
  return names.sort()
}

function groupContract(withStore: WithStore): void {
  withStore('a group lists the names of its records, and no others', async store => {
    const { records, groups } = hostedRecords()
    await store.writeRecord(
      tagRecord('v1.0', 'team/app', 'registry.example.com:5000'),
      Buffer.from('x'),
      'relaxed',
    )
    for (const record of records) await store.writeRecord(record, Buffer.from('{}'), 'durable')
    for (const group of groups) {
      const expected = records.filter(record => isIn(record, group)).map(record => JSON.stringify(record))
      assert.ok(expected.length > 0)
      assert.deepEqual(await namesOf(store.listRecordsOf(group)), expected.sort(), JSON.stringify(group))
    }
    assert.equal((await namesOf(store.listRecordsOf({ kind: 'hosted-hold' }))).length, 4)
  })

  withStore('a record that is removed leaves its group, and a group of nothing is empty', async store => {
    const { records, groups } = hostedRecords()
    for (const record of records) await store.writeRecord(record, Buffer.from('{}'), 'relaxed')
    for (const record of records) assert.equal(await store.deleteRecord(record), true)
    for (const group of groups) assert.deepEqual(await namesOf(store.listRecordsOf(group)), [])
    for (const record of records) await store.writeRecord(record, Buffer.from('{}'), 'durable')
    assert.equal((await namesOf(store.listRecordsOf({ kind: 'hosted-hold' }))).length, 4)
  })
}
