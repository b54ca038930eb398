import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Catalogue } from '../../../src/content/index/catalogue.ts'
import type { Change, ImageQuery, ShelfQuery, ShelvedImage } from '../../../src/content/index/change.ts'
import { type Digest, digestOf } from '../../../src/oci/digest.ts'

async function open(t: TestContext): Promise<Catalogue> {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-shelves-'))
  const catalogue = new Catalogue(join(directory, 'index.sqlite'))
  t.after(async () => {
    catalogue.close({ isStale: false })
    await rm(directory, { recursive: true })
  })
  return catalogue
}

const ALL: ShelfQuery = {
  kind: undefined,
  order: 'name',
  search: '',
  namespace: undefined,
  isWhole: undefined,
  usedBeforeMs: undefined,
  after: undefined,
  limit: 50,
}

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

const digest = (name: string): Digest => digestOf(Buffer.from(name))

const stored = (name: string, sizeBytes: number, atMs = 1): Change => ({
  kind: 'stored',
  digest: digest(name),
  sizeBytes,
  atMs,
})

/** What is noted when a client is shown a manifest of 10 bytes by a tag. */
function image(
  name: string,
  tag: string,
  layers: Readonly<Record<string, number>>,
  atMs = 1,
): readonly Change[] {
  const [namespace = '', ...rest] = name.split('/')
  const place = { namespace, repository: rest.join('/') }
  const own = digest(`${name}:${tag}`)
  const blobs = Object.entries(layers).map(([layer, sizeBytes]) => ({ digest: digest(layer), sizeBytes }))
  return [
    { kind: 'stored', digest: own, sizeBytes: 10, atMs },
    { kind: 'linked', place, digest: own },
    { kind: 'tagged', place, tag, digest: own, atMs },
    { kind: 'used', digest: own, atMs, hits: 0, servedBytes: 0, isManifest: true, blobs },
  ]
}

/** The names of all images, from as many pages as it takes. */
function namesOf(catalogue: Catalogue, query: Partial<ShelfQuery> = {}): readonly string[] {
  return listed(catalogue, query).map(
    ({ namespace, repository, tag, digest: own }) =>
      `${namespace}/${repository}${tag === undefined ? `@${own}` : `:${tag}`}`,
  )
}

function listed(catalogue: Catalogue, query: Partial<ShelfQuery>): readonly ShelvedImage[] {
  const all: ShelvedImage[] = []
  let after: string | undefined
  do {
    const page = catalogue.shelves.page({ ...ALL, ...query, after })
    all.push(...page.images)
    after = page.next
  } while (after !== undefined)
  return all
}

test('an image is whole once every layer is stored, and its sums follow what comes and goes', async t => {
  const catalogue = await open(t)
  const extent = (): unknown => catalogue.shelves.page(ALL).images[0]?.extent
  catalogue.apply(image('docker.io/a', 'v1', { one: 100, two: 30 }))
  assert.deepEqual(extent(), { cachedBytes: 10, missingBytes: 130, lacks: 2 })
  catalogue.apply([stored('one', 100)])
  assert.deepEqual(extent(), { cachedBytes: 110, missingBytes: 30, lacks: 1 })
  assert.deepEqual(
    [namesOf(catalogue, { isWhole: true }), namesOf(catalogue, { isWhole: false }).length],
    [[], 1],
  )
  catalogue.apply([stored('two', 30)])
  assert.deepEqual(extent(), { cachedBytes: 140, missingBytes: 0, lacks: 0 })
  catalogue.apply([{ kind: 'removed', digest: digest('one') }])
  assert.deepEqual(extent(), { cachedBytes: 40, missingBytes: 100, lacks: 1 })
})

test('an index is as whole as its manifests, and one that is not stored counts as missing', async t => {
  const catalogue = await open(t)
  const place = { namespace: 'docker.io', repository: 'a' }
  const [arm, amd] = [digest('docker.io/a:arm'), digest('docker.io/a:amd')]
  const index = digest('index')
  catalogue.apply([
    { kind: 'stored', digest: index, sizeBytes: 5, atMs: 1 },
    { kind: 'linked', place, digest: index },
    { kind: 'tagged', place, tag: 'all', digest: index, atMs: 1 },
    {
      kind: 'used',
      digest: index,
      atMs: 1,
      hits: 0,
      servedBytes: 0,
      isManifest: true,
      manifests: [arm, amd],
      blobs: [],
    },
  ])
  const extent = (): unknown => catalogue.shelves.page(ALL).images.find(({ tag }) => tag === 'all')?.extent
  assert.deepEqual(extent(), { cachedBytes: 5, missingBytes: 0, lacks: 2 })
  catalogue.apply(image('docker.io/a', 'arm', { one: 100 }))
  assert.deepEqual(extent(), { cachedBytes: 15, missingBytes: 100, lacks: 2 })
  catalogue.apply([stored('one', 100)])
  assert.deepEqual(extent(), { cachedBytes: 115, missingBytes: 0, lacks: 1 })
})

test('pages of every order have each image once, whatever their length', async t => {
  const catalogue = await open(t)
  for (let number = 0; number < 30; number += 1)
    catalogue.apply(image(`docker.io/r${number % 7}`, `v${number}`, { [`layer ${number % 5}`]: 1 }, number))
  catalogue.apply(image('ghcr.io/z/z', 'v1', {}, 100))
  const all = namesOf(catalogue).toSorted()
  assert.equal(all.length, 31)
  for (const order of ['name', 'last-use', 'size'] as const)
    for (const limit of [1, 2, 7, 31, 50])
      assert.deepEqual(namesOf(catalogue, { order, limit }).toSorted(), all, `${order} by ${limit}`)
})

test('the order of use begins with the latest, and that of size with the largest', async t => {
  const catalogue = await open(t)
  catalogue.apply([
    ...image('a.io/x', 'old', { big: 900 }, 1),
    ...image('a.io/x', 'new', {}, 2),
    stored('big', 900),
  ])
  assert.deepEqual(namesOf(catalogue, { order: 'last-use' }), ['a.io/x:new', 'a.io/x:old'])
  assert.deepEqual(namesOf(catalogue, { order: 'size' }), ['a.io/x:old', 'a.io/x:new'])
})

test('the search finds parts of names and, behind a colon, the beginning of tags', async t => {
  const catalogue = await open(t)
  for (const [name, tag] of [
    ['docker.io/library/alpine', '3.20'],
    ['docker.io/library/alpine', 'edge'],
    ['ghcr.io/alpine/git', '3.1'],
  ] as const)
    catalogue.apply(image(name, tag, {}))
  assert.equal(namesOf(catalogue, { search: 'alpine' }).length, 3)
  assert.equal(namesOf(catalogue, { search: 'docker.io/library' }).length, 2)
  assert.deepEqual(namesOf(catalogue, { search: 'alpine:3.2' }), ['docker.io/library/alpine:3.20'])
  assert.deepEqual(namesOf(catalogue, { search: '%' }), [])
  for (const order of ['name', 'size'] as const)
    assert.deepEqual(namesOf(catalogue, { order, namespace: 'ghcr.io' }), ['ghcr.io/alpine/git:3.1'])
})

test('several tags of one manifest are one row in the order of size, which counts the other names', async t => {
  const catalogue = await open(t)
  catalogue.apply(image('docker.io/a', 'v1', {}))
  const place = { namespace: 'docker.io', repository: 'a' }
  catalogue.apply(
    ['v2', 'v3'].map(
      tag => ({ kind: 'tagged', place, tag, digest: digest('docker.io/a:v1'), atMs: 1 }) as const,
    ),
  )
  assert.equal(namesOf(catalogue).length, 3)
  assert.deepEqual(
    listed(catalogue, { order: 'size' }).map(({ tag, otherNames }) => [tag, otherNames]),
    [['v1', 2]],
  )
})

/** What is noted when an image is pushed to a hosted repository. */
function pushed(
  repository: string,
  tag: string | undefined,
  children: readonly Digest[] = [],
): readonly Change[] {
  const place = { namespace: 'docker.io', repository }
  const own = digest(`pushed ${repository} ${tag}`)
  return [
    { kind: 'stored', digest: own, sizeBytes: 10, atMs: 1 },
    { kind: 'read', digest: own, manifests: children, blobs: [] },
    { kind: 'held', digest: own },
    { kind: 'published', place, digest: own },
    ...(tag === undefined
      ? []
      : [{ kind: 'tagged', place, tag, digest: own, atMs: 1, isHosted: true } as const]),
  ]
}

test('hosted images are listed in every order, by themselves and with the cached ones, until they are withdrawn', async t => {
  const catalogue = await open(t)
  const [child, place] = [
    digest('pushed acme/app undefined'),
    { namespace: 'docker.io', repository: 'acme/app' },
  ]
  catalogue.apply([
    ...image('docker.io/library/alpine', 'v1', {}),
    // Cached before the name was claimed: nobody can pull it any more.
    ...image('docker.io/acme/app', 'v1', {}),
    ...pushed('acme/app', undefined),
    ...pushed('acme/app', 'v1', [child]),
    ...pushed('acme/tool', undefined),
  ])
  const signature = `docker.io/acme/tool@${digest('pushed acme/tool undefined')}`
  const ownImages = ['docker.io/acme/app:v1', signature]
  const all = ['docker.io/acme/app:v1', signature, 'docker.io/library/alpine:v1']
  const names = (kind: ShelfQuery['kind']): readonly string[] =>
    catalogue.images
      .list({ ...EVERY_IMAGE, kind })
      .images.map(
        ({ repository, tag, digest: own }) =>
          `docker.io/${repository}${tag === undefined ? `@${own}` : `:${tag}`}`,
      )
  assert.deepEqual([names('hosted'), names(undefined)], [ownImages, all])
  assert.deepEqual(names('cached'), ['docker.io/acme/app:v1', 'docker.io/library/alpine:v1'])
  for (const limit of [1, 2, 50]) {
    for (const order of ['name', 'last-use', 'size'] as const)
      assert.deepEqual(namesOf(catalogue, { kind: 'hosted', order, limit }).toSorted(), ownImages.toSorted())
    assert.deepEqual(namesOf(catalogue, { limit }), all)
  }
  catalogue.apply([
    { kind: 'untagged', place, tag: 'v1', isHosted: true },
    { kind: 'withdrawn', place, digest: digest('pushed acme/app v1') },
    {
      kind: 'withdrawn',
      place: { ...place, repository: 'acme/tool' },
      digest: digest('pushed acme/tool undefined'),
    },
  ])
  // The child of the index has become an image of its own.
  assert.deepEqual(names('hosted'), [`docker.io/acme/app@${child}`])
  assert.deepEqual(names('cached'), ['docker.io/acme/app:v1', 'docker.io/library/alpine:v1'])
})

test('hosted images beyond those that are sorted at once are listed by use and by size, and found by name', async t => {
  const catalogue = await open(t)
  const names = Array.from({ length: 310 }, (_, number) => `acme/app-${1000 + number}`)
  catalogue.apply([...names.flatMap(name => pushed(name, 'v1')), ...image('docker.io/acme/cached', 'v1', {})])
  const all = names.map(name => `docker.io/${name}:v1`)
  for (const order of ['last-use', 'size'] as const)
    assert.deepEqual(namesOf(catalogue, { kind: 'hosted', order }).toSorted(), all)
  assert.deepEqual(namesOf(catalogue, { search: 'app-1234' }), ['docker.io/acme/app-1234:v1'])
  assert.deepEqual(namesOf(catalogue, { search: 'acme/cached:v' }), ['docker.io/acme/cached:v1'])
  assert.deepEqual(namesOf(catalogue, { search: 'a"b' }), [])
  assert.equal(namesOf(catalogue, { search: 'app-11', limit: 7 }).length, 100)
})

const PARTIAL = { isWhole: false } as const
const UNUSED = { usedBeforeMs: 40 } as const

/** Images of which every third lacks a layer, and every fifth has no tag. */
function mixed(count: number): readonly Change[] {
  return Array.from({ length: count }, (_, number) => {
    const isPartial = number % 3 === 0
    const repository = `mixed/app-${1000 + (number % 20)}`
    const changes = image(`docker.io/${repository}`, `v${number}`, isPartial ? { gone: 5 } : {}, number)
    if (number % 5 !== 1) return changes
    const untagged = changes.filter(({ kind }) => kind !== 'tagged')
    const place = { namespace: 'docker.io', repository }
    return [
      ...untagged,
      {
        kind: 'pulled',
        place,
        reference: digest(`docker.io/${repository}:v${number}`),
        atMs: number,
        hits: 0,
      },
    ] as const
  }).flat()
}

test('what lacks something and what was not used is the same in every order and by pages of any length', async t => {
  const catalogue = await open(t)
  catalogue.apply([...mixed(90), ...pushed('acme/app', 'v1'), ...pushed('acme/app', 'v2')])
  for (const filter of [PARTIAL, UNUSED, { ...PARTIAL, ...UNUSED }, { ...PARTIAL, search: 'app-1003' }]) {
    const wanted = listed(catalogue, {}).filter(
      ({ extent, lastUseMs = 0, repository }) =>
        (!('isWhole' in filter) || (extent?.lacks ?? 0) > 0) &&
        (!('usedBeforeMs' in filter) || lastUseMs < 40) &&
        (!('search' in filter) || repository === 'mixed/app-1003'),
    )
    assert.ok(wanted.length > 1 && wanted.length < 90)
    const names = wanted.map(({ repository, tag, digest: own }) =>
      tag === undefined ? `docker.io/${repository}@${own}` : `docker.io/${repository}:${tag}`,
    )
    for (const limit of [1, 7, 50]) {
      assert.deepEqual(namesOf(catalogue, { ...filter, limit }), names)
      for (const order of ['last-use', 'size'] as const)
        assert.deepEqual(namesOf(catalogue, { ...filter, order, limit }).toSorted(), names.toSorted())
    }
  }
})

test('more partial images than are sorted at once are listed in every order, the latest and the largest first', async t => {
  const catalogue = await open(t)
  const count = 2100
  catalogue.apply(
    Array.from({ length: count }, (_, number) =>
      image(
        `docker.io/many/app-${number % 20}`,
        `v${number}`,
        { gone: 5, [`own ${number}`]: number },
        number,
      ),
    ).flat(),
  )
  catalogue.apply([...image('docker.io/whole', 'v1', {}, 5), ...pushed('acme/app', 'v1')])
  assert.equal(namesOf(catalogue, PARTIAL).length, count)
  const byUse = listed(catalogue, { ...PARTIAL, order: 'last-use' }).map(({ lastUseMs }) => lastUseMs)
  assert.deepEqual(
    byUse,
    Array.from({ length: count }, (_, index) => count - 1 - index),
  )
  assert.equal(new Set(namesOf(catalogue, { ...PARTIAL, order: 'size' })).size, count)
  assert.deepEqual(namesOf(catalogue, { ...PARTIAL, order: 'size', kind: 'hosted' }), [])
  // Those used before a time begin behind all others, which are more than one page looks at.
  const page = catalogue.shelves.page({ ...ALL, order: 'last-use', usedBeforeMs: 3 })
  assert.deepEqual(
    page.images.map(({ lastUseMs }) => lastUseMs),
    [2, 1, 1, 0],
  )
})

test('a hosted image that lost a layer is found among the hosted ones in every order', async t => {
  const catalogue = await open(t)
  const names = Array.from({ length: 310 }, (_, number) => `acme/app-${1000 + number}`)
  const place = { namespace: 'docker.io', repository: 'acme/broken' }
  const own = digest('broken')
  catalogue.apply([
    ...names.flatMap(name => pushed(name, 'v1')),
    ...image('docker.io/acme/cached', 'v1', { gone: 5 }),
    { kind: 'stored', digest: own, sizeBytes: 10, atMs: 1 },
    { kind: 'read', digest: own, manifests: [], blobs: [{ digest: digest('gone'), sizeBytes: 5 }] },
    { kind: 'held', digest: own },
    { kind: 'published', place, digest: own },
    { kind: 'tagged', place, tag: 'v1', digest: own, atMs: 1, isHosted: true },
  ])
  for (const order of ['name', 'last-use', 'size'] as const)
    assert.deepEqual(namesOf(catalogue, { ...PARTIAL, kind: 'hosted', order }), ['docker.io/acme/broken:v1'])
})
