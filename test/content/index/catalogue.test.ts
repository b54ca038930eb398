import assert from 'node:assert/strict'
import { chmod, mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Catalogue } from '../../../src/content/index/catalogue.ts'
import type { CandidateQuery, ImageQuery } from '../../../src/content/index/change.ts'
import { type Digest, digestOf } from '../../../src/oci/digest.ts'

async function open(t: TestContext): Promise<{ readonly path: string; readonly catalogue: Catalogue }> {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-catalogue-'))
  const path = join(directory, 'index.sqlite')
  t.after(async () => await rm(directory, { recursive: true }))
  return { path, catalogue: new Catalogue(path) }
}

const digest = (name: string): Digest => digestOf(Buffer.from(name))
const stored = (name: string, sizeBytes: number, atMs: number) =>
  ({ kind: 'stored', digest: digest(name), sizeBytes, atMs }) as const
const linked = (name: string, namespace: string) =>
  ({ kind: 'linked', digest: digest(name), place: { namespace, repository: 'a/b' } }) as const

const pulled = (reference: string, atMs: number, hits: number) =>
  ({
    kind: 'pulled',
    place: { namespace: 'docker.io', repository: 'a/b' },
    reference,
    atMs,
    hits,
  }) as const

const EVERY_IMAGE: ImageQuery = {
  kind: undefined,
  patterns: [],
  namespace: undefined,
  isUntagged: false,
  usedBeforeMs: undefined,
  order: 'name',
  after: undefined,
  limit: 100,
}

const ALL: CandidateQuery = {
  isManifest: false,
  usedBeforeMs: Infinity,
  only: undefined,
  after: undefined,
  limit: 100,
}

test('the sum is that of the sizes, however often the same content is stored, found and removed', async t => {
  const { catalogue } = await open(t)
  catalogue.apply([stored('a', 10, 1), stored('b', 20, 2), stored('a', 10, 3)])
  catalogue.apply([{ kind: 'found', digest: digest('b'), sizeBytes: 25, atMs: 1 }])
  assert.deepEqual(
    { ...catalogue.totals, bytesByNamespace: undefined },
    { objects: 2, bytes: 35, bytesByNamespace: undefined },
  )
  catalogue.apply([
    { kind: 'removed', digest: digest('a') },
    { kind: 'removed', digest: digest('a') },
  ])
  assert.equal(catalogue.totals.bytes, 25)
  catalogue.close({ isStale: false })
})

test('content counts for the configured one of the namespaces that share it, whichever came first', async t => {
  const { catalogue } = await open(t)
  catalogue.configure(['docker.io'])
  catalogue.apply([linked('a', 'evil.example'), stored('a', 10, 1)])
  assert.deepEqual([...catalogue.totals.bytesByNamespace], [['evil.example', 10]])
  catalogue.apply([linked('a', 'docker.io'), linked('a', 'other.example')])
  assert.deepEqual([...catalogue.totals.bytesByNamespace], [['docker.io', 10]])
  catalogue.apply([stored('b', 5, 1)])
  assert.equal(catalogue.totals.bytesByNamespace.get(''), 5)
  catalogue.close({ isStale: false })
})

test('candidates come by last use, in slices that together have each once', async t => {
  const { catalogue } = await open(t)
  const names = Array.from({ length: 25 }, (_, number) => `object ${number}`)
  catalogue.apply(names.map((name, number) => stored(name, 1, (number * 7) % 10)))
  catalogue.apply([
    { kind: 'used', digest: digest('object 0'), atMs: 99, hits: 2, servedBytes: 3, isManifest: false },
    { kind: 'used', digest: digest('object 1'), atMs: 1, hits: 0, servedBytes: 0, isManifest: true },
  ])
  const seen: { readonly digest: Digest; readonly lastUseMs: number }[] = []
  for (let after: CandidateQuery['after'], isOver = false; !isOver; ) {
    const slice = catalogue.queries.candidates({ ...ALL, after, limit: 4 })
    seen.push(...slice.candidates)
    after = slice.next
    isOver = after === undefined
  }
  assert.equal(new Set(seen.map(candidate => candidate.digest)).size, 24)
  assert.equal(seen.length, 24)
  assert.equal(seen.at(-1)?.digest, digest('object 0'))
  const times = seen.map(({ lastUseMs }) => lastUseMs)
  assert.deepEqual(
    times,
    times.toSorted((one, other) => one - other),
  )
  const manifests = catalogue.queries.candidates({ ...ALL, isManifest: true })
  assert.deepEqual(
    manifests.candidates.map(candidate => candidate.digest),
    [digest('object 1')],
  )
  catalogue.close({ isStale: false })
})

test('content that was used in the future counts as used now', async t => {
  const { catalogue } = await open(t)
  catalogue.apply([stored('a', 1, 1_000_000), stored('b', 1, 5)])
  catalogue.queries.pullBack(10)
  const times = catalogue.queries.candidates(ALL).candidates.map(({ lastUseMs }) => lastUseMs)
  assert.deepEqual(times, [5, 10])
  catalogue.close({ isStale: false })
})

test('a catalogue is stale when it is new, after a crash, and until a walk is over; not after an end in order', async t => {
  const { path, catalogue } = await open(t)
  assert.equal(catalogue.state.isStale, true)
  catalogue.apply([stored('a', 7, 1)])
  catalogue.close({ isStale: true })
  const second = new Catalogue(path)
  assert.equal(second.state.isStale, true)
  second.close({ isStale: false })
  const third = new Catalogue(path)
  assert.equal(third.state.isStale, false)
  assert.equal(third.totals.bytes, 7)
  third.close({ isStale: false })
})

test('what a walk has not seen is what was there before it began', async t => {
  const { catalogue } = await open(t)
  catalogue.apply([stored('gone', 1, 1), stored('here', 1, 1)])
  catalogue.beginWalk()
  catalogue.apply([{ kind: 'found', digest: digest('here'), sizeBytes: 1, atMs: 1 }, stored('new', 1, 2)])
  assert.deepEqual(catalogue.unseen(0, 10), { digests: [digest('gone')], next: -1 })
  catalogue.close({ isStale: false })
})

test('a second catalogue on the same file is refused while the first is open', async t => {
  const { path, catalogue } = await open(t)
  assert.throws(() => new Catalogue(path), /locked/)
  catalogue.close({ isStale: false })
  new Catalogue(path).close({ isStale: false })
})

test('tags are listed in pages that together have each once, with the last use of their manifests', async t => {
  const { catalogue } = await open(t)
  for (const [number, repository] of ['a', 'b', 'c'].entries()) {
    for (const tag of ['1', '2']) {
      const place = { namespace: 'docker.io', repository }
      catalogue.apply([{ kind: 'tagged', place, tag, digest: digest(`${repository}${tag}`), atMs: number }])
    }
  }
  catalogue.apply([stored('a1', 1, 50)])
  const first = catalogue.images.list({ ...EVERY_IMAGE, limit: 4 })
  const second = catalogue.images.list({ ...EVERY_IMAGE, after: first.next, limit: 4 })
  assert.deepEqual([first.total, second.total], [6, undefined])
  const names = [...first.images, ...second.images].map(({ repository, tag }) => `${repository}:${tag}`)
  assert.deepEqual(names, ['a:1', 'a:2', 'b:1', 'b:2', 'c:1', 'c:2'])
  assert.equal(first.images[0]?.lastUseMs, 50)
  assert.equal(first.images[1]?.lastUseMs, undefined)
  assert.equal(second.next, undefined)
  catalogue.close({ isStale: false })
})

test('a tag, a digest without a tag and a moved tag are images; a manifest of a listed index is not', async t => {
  const { catalogue } = await open(t)
  const place = { namespace: 'docker.io', repository: 'a/b' }
  const shown = (name: string, manifests: readonly Digest[] = []) =>
    ({
      kind: 'used',
      digest: digest(name),
      atMs: 1,
      hits: 0,
      servedBytes: 0,
      isManifest: true,
      manifests,
    }) as const
  for (const name of ['index', 'child', 'alone', 'old', 'new', 'layer'])
    catalogue.apply([stored(name, 1, 1), linked(name, 'docker.io')])
  catalogue.apply([
    shown('index', [digest('child')]),
    { kind: 'tagged', place, tag: 'latest', digest: digest('old'), atMs: 1 },
    { kind: 'tagged', place, tag: 'latest', digest: digest('new'), atMs: 2 },
    ...['index', 'child', 'alone'].map(name => shown(name)),
    ...['index', 'child', 'alone', 'new'].map(name => pulled(digest(name), 5, 1)),
    pulled('latest', 9, 2),
  ])
  const listed = catalogue.images.list(EVERY_IMAGE).images
  const names = listed.map(({ tag, digest: listedDigest }) => tag ?? listedDigest)
  assert.deepEqual(names, ['latest', ...['index', 'alone', 'old'].map(digest)].toSorted())
  const byName = new Map(listed.map(image => [image.tag ?? image.digest, image]))
  assert.deepEqual([byName.get('latest')?.hits, byName.get('latest')?.lastUseMs], [2, 9])
  assert.deepEqual([byName.get(digest('alone'))?.hits, byName.get(digest('alone'))?.lastUseMs], [1, 5])
  catalogue.apply([{ kind: 'removed', digest: digest('index') }])
  assert.ok(catalogue.images.list(EVERY_IMAGE).images.some(image => image.digest === digest('child')))
  catalogue.takeLinks(digest('alone'))
  assert.ok(!catalogue.images.list(EVERY_IMAGE).images.some(image => image.digest === digest('alone')))
  catalogue.close({ isStale: false })
})

test('images come by last use, by hits, by registry, by pattern and by how long they were not used', async t => {
  const { catalogue } = await open(t)
  for (const [number, namespace] of ['docker.io', 'ghcr.io', 'quay.io'].entries()) {
    const place = { namespace, repository: 'team/app' }
    catalogue.apply([{ kind: 'tagged', place, tag: 'v1', digest: digest(namespace), atMs: 1 }])
    catalogue.apply([{ kind: 'pulled', place, reference: 'v1', atMs: 100 - number, hits: (number * 2) % 3 }])
  }
  const registries = (query: Partial<ImageQuery>): readonly string[] =>
    catalogue.images.list({ ...EVERY_IMAGE, ...query }).images.map(({ namespace }) => namespace)
  assert.deepEqual(registries({ order: 'last-use' }), ['docker.io', 'ghcr.io', 'quay.io'])
  assert.deepEqual(registries({ order: 'hits' }), ['ghcr.io', 'quay.io', 'docker.io'])
  assert.deepEqual(registries({ order: 'hits', after: '2' }), ['docker.io'])
  assert.deepEqual(registries({ namespace: 'ghcr.io' }), ['ghcr.io'])
  assert.deepEqual(registries({ patterns: ['quay.io', 'team/*'] }), ['docker.io', 'quay.io'])
  assert.deepEqual(registries({ usedBeforeMs: 100 }), ['ghcr.io', 'quay.io'])
  catalogue.close({ isStale: false })
})

test('objects are found by the first digits of their digests, whole or odd in number', async t => {
  const { catalogue } = await open(t)
  catalogue.apply(['a', 'b', 'c'].map(name => stored(name, 1, 1)))
  const hex = digest('b').slice('sha256:'.length)
  for (const length of [1, 5, 12, 64]) {
    const found = catalogue.queries.objectsByPrefix(hex.slice(0, length), 10)
    assert.ok(
      found.some(entry => entry.digest === digest('b')),
      `${length} digits`,
    )
    assert.ok(found.every(entry => entry.digest.startsWith(`sha256:${hex.slice(0, length)}`)))
  }
  catalogue.close({ isStale: false })
})

test('an index with a size that is impossible is refused, so that it is rebuilt', async t => {
  const { path, catalogue } = await open(t)
  catalogue.apply([stored('a', 2 ** 50, 1)])
  catalogue.close({ isStale: false })
  assert.throws(() => new Catalogue(path), /impossible size/)
})

test('the index and its log are readable for their owner alone, also where an earlier version made them', async t => {
  const { path, catalogue } = await open(t)
  catalogue.apply([stored('a', 1, 1)])
  const modeOf = async (file: string): Promise<number> => (await stat(file)).mode & 0o777
  assert.deepEqual([await modeOf(path), await modeOf(`${path}-wal`)], [0o600, 0o600])
  catalogue.close({ isStale: false })
  await chmod(path, 0o644)
  new Catalogue(path).close({ isStale: false })
  assert.equal(await modeOf(path), 0o600)
})

test('links are dead if their digest is neither stored nor named by a stored manifest', async t => {
  const { catalogue } = await open(t)
  catalogue.apply([stored('manifest', 1, 1), stored('blob', 1, 1)])
  catalogue.apply(['manifest', 'blob', 'named', 'dead', 'dead too'].map(name => linked(name, 'docker.io')))
  const { queries } = catalogue
  queries.markNamed([digest('named')])
  const dead = [digest('dead'), digest('dead too')].toSorted()
  assert.deepEqual(queries.deadLinks(undefined, 10), dead)
  assert.deepEqual(queries.deadLinks(dead[0], 10), dead.slice(1))
  assert.equal(queries.countLinks(), 5)
  queries.clearNamed()
  assert.equal(queries.deadLinks(undefined, 10).length, 3)
  catalogue.close({ isStale: false })
})

test('content that a hosted repository holds is no candidate and no cache, whenever the hold is noted', async t => {
  const { catalogue } = await open(t)
  catalogue.apply([{ kind: 'held', digest: digest('early') }, stored('early', 10, 1), stored('late', 20, 2)])
  catalogue.apply([
    { kind: 'held', digest: digest('late') },
    linked('late', 'docker.io'),
    stored('cache', 40, 3),
  ])
  const candidates = (): Digest[] => catalogue.queries.candidates(ALL).candidates.map(found => found.digest)
  assert.deepEqual(candidates(), [digest('cache')])
  assert.equal(catalogue.totals.bytes, 40)
  catalogue.apply([{ kind: 'released', digest: digest('late') }])
  assert.deepEqual(candidates().toSorted(), [digest('cache'), digest('late')].toSorted())
  assert.equal(catalogue.totals.bytes, 60)
  assert.equal(catalogue.totals.bytesByNamespace.get('docker.io'), 20)
  catalogue.apply([{ kind: 'removed', digest: digest('early') }])
  assert.equal(catalogue.totals.bytes, 60)
})
