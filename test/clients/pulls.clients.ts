import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Puller, PullerKind } from './rig/clients/puller.ts'
import { buildImage, type Image } from './rig/image.ts'
import { Mirror } from './rig/mirror.ts'
import { freePort } from './rig/ports.ts'
import { KINDS, lackingFor, lackingForRig, skipFor } from './rig/requirements.ts'
import { World } from './rig/world.ts'

const REGISTRIES = [
  {
    registry: 'docker.io',
    how: 'Bearer tokens, blobs on a CDN',
    types: 'oci',
    architectures: ['amd64', 'arm64'],
  },
  { registry: 'ghcr.io', how: 'no authentication', types: 'docker', architectures: ['amd64', 'arm64'] },
  { registry: 'quay.io', how: 'Bearer tokens for a login', types: 'oci', architectures: ['amd64'] },
] as const

const LAYERS = [3_000_000, 400_000, 20_000, 1_000]

describe('real clients pull real images through the mirror', { skip: skipFor(lackingForRig()) }, () => {
  let world: World
  let mirror: Mirror
  let port: number
  const stack = new AsyncDisposableStack()
  const pullers = new Map<PullerKind, Puller>()
  const kinds = KINDS.filter(kind => skipFor(lackingFor(kind)) === false)

  before(async () => {
    world = stack.use(await World.open())
    port = await freePort()
    mirror = await Mirror.start(world, 'pulls', port)
    for (const kind of kinds) pullers.set(kind, stack.use(await kind.start(world, mirror.address)))
  })

  after(async () => {
    await mirror?.[Symbol.asyncDispose]()
    await stack.disposeAsync()
  })

  const puller = (kind: PullerKind): Puller => {
    const puller = pullers.get(kind)
    assert.ok(puller, `${kind.name} has not been started`)
    return puller
  }

  /** The name of an image in the upstream, and the name by which the client asks for it. */
  const names = (kind: PullerKind, registry: string): { pushed: string; asked: string } => {
    const user = registry === 'docker.io' ? 'library' : 'team'
    const pushed = `${registry}/${user}/tools-${kind.name.toLowerCase()}:1`
    const direct = kind.mirrorsOnlyDockerHub && registry !== 'docker.io'
    return { pushed, asked: direct ? `${mirror.address}/${pushed}` : pushed }
  }

  const assertFetchedOnce = (image: Image, platforms: readonly string[], mark: number): void => {
    const pieces = platforms.flatMap(platform => image.platforms.get(platform) ?? [])
    const expected = new Map(pieces.map(({ digest }) => [digest, 1]))
    assert.deepEqual(sorted(world.blobFetches(mark)), sorted(expected), mirror.output())
    assert.deepEqual(world.bypasses(mark), [], 'the client went past the mirror')
    const manifestGets = world.logged(mark).filter(isManifestGet).length
    const manifests = image.manifests.length === 0 ? 1 : 1 + platforms.length
    assert.equal(manifestGets, manifests, 'each manifest is fetched from the upstream once')
  }

  const assertNothingFetched = (mark: number): void => {
    assert.deepEqual(world.blobFetches(mark), new Map(), mirror.output())
    assert.deepEqual(world.logged(mark).filter(isManifestGet), [])
    assert.deepEqual(world.bypasses(mark), [], 'the client went past the mirror')
  }

  test('every client of the suite is installed where it must run', () => {
    const lacking = KINDS.filter(kind => !kinds.includes(kind)).map(({ name }) => name)
    const missing = kinds.flatMap(lackingFor)
    assert.deepEqual(missing, [])
    for (const name of lacking) console.log(`skipped, not installed: ${name}`)
  })

  for (const kind of KINDS) {
    describe(kind.name, { skip: skipFor(lackingFor(kind)) }, () => {
      for (const { registry, how, types, architectures } of REGISTRIES) {
        test(`pulls from ${registry} (${how}): cold once per blob, warm nothing, then runs it`, async () => {
          const { pushed, asked } = names(kind, registry)
          const greeting = `hello from ${pushed}`
          const image = buildImage({ greeting, types, architectures, layerBytes: LAYERS })
          await world.push(pushed, image)
          const cold = world.front.log.length
          await puller(kind).pull(asked)
          assertFetchedOnce(image, ['amd64'], cold)
          await puller(kind).forget(asked)
          const warm = world.front.log.length
          await puller(kind).pull(asked)
          assertNothingFetched(warm)
          const printed = await puller(kind).run?.(asked)
          if (printed !== undefined) assert.equal(printed, `${greeting}\n`)
          await puller(kind).forget(asked)
        })
      }
    })
  }

  for (const kind of KINDS.filter(({ name }) => name === 'ctr' || name === 'skopeo')) {
    test(`${kind.name} pulls every platform of an index`, { skip: skipFor(lackingFor(kind)) }, async () => {
      const name = `docker.io/library/platforms-${kind.name}:1`
      const architectures = ['amd64', 'arm64']
      const image = buildImage({ greeting: name, types: 'oci', architectures, layerBytes: LAYERS })
      await world.push(name, image)
      const mark = world.front.log.length
      await puller(kind).pullEveryPlatform?.(name)
      assertFetchedOnce(image, architectures, mark)
      await puller(kind).forget(name)
    })
  }

  test('all clients at once pull one cold image, and each blob leaves the upstream once', async () => {
    const name = 'docker.io/library/crowd:1'
    const layerBytes = Array.from({ length: 20 }, (_, at) => 50_000 + at * 40_000)
    const image = buildImage({
      greeting: name,
      types: 'docker',
      architectures: ['amd64', 'arm64'],
      layerBytes,
    })
    await world.push(name, image)
    const mark = world.front.log.length
    await Promise.all(kinds.map(async kind => await puller(kind).pull(name)))
    assertFetchedOnce(image, ['amd64'], mark)
    await Promise.all(kinds.map(async kind => await puller(kind).forget(name)))
  })

  for (const restarted of [false, true]) {
    const when = restarted ? 'the mirror restarted and the upstreams stopped' : 'the upstreams stopped'
    describe(`with ${when}`, () => {
      before(async () => {
        await world.front.down()
        if (!restarted) return
        await mirror[Symbol.asyncDispose]()
        mirror = await Mirror.start(world, 'pulls', port)
      })

      for (const kind of KINDS) {
        test(`${kind.name} pulls what is warm`, { skip: skipFor(lackingFor(kind)) }, async () => {
          for (const { registry } of REGISTRIES) {
            const { asked } = names(kind, registry)
            await puller(kind).pull(asked)
            await puller(kind).forget(asked)
          }
        })
      }
    })
  }
})

function isManifestGet({ method, path, status }: { method: string; path: string; status: number }): boolean {
  return method === 'GET' && path.includes('/manifests/') && status === 200
}

function sorted(map: ReadonlyMap<string, number>): [string, number][] {
  return [...map].sort(([a], [b]) => (a < b ? -1 : 1))
}
