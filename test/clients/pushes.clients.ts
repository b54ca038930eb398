import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { after, before, describe, test } from 'node:test'
import { hashSync } from 'bcryptjs'
import { runOk } from './rig/child.ts'
import { buildImage } from './rig/image.ts'
import { writeLayout } from './rig/layout.ts'
import { Mirror } from './rig/mirror.ts'
import { buildkitd } from './rig/pushers/buildkit.ts'
import { CONTAINERS } from './rig/pushers/containers.ts'
import { ENGINES } from './rig/pushers/engines.ts'
import { GO_TOOLS } from './rig/pushers/go-tools.ts'
import type { PushClient, PusherKind, PushSite } from './rig/pushers/pusher.ts'
import { isMissing, lackingForRig, skipFor } from './rig/requirements.ts'
import { World } from './rig/world.ts'

const LOGIN = { username: 'ci', password: 'correct horse' } as const
const HOSTED = 'registry.example.com'
const TAG = '1.0.0'

/** Programs that this run is told to do without, such as those that take too long to build on CI. */
const leftOut = new Set((process.env['ENTREPOT_CLIENTS_WITHOUT'] ?? '').split(',').filter(Boolean))
const ALL: readonly PusherKind[] = [...ENGINES, ...CONTAINERS, buildkitd, ...GO_TOOLS]
const KINDS = ALL.filter(
  ({ executables }) => !executables.some(path => leftOut.has(path.split('/').at(-1) ?? '')),
)

const lackingFor = ({ executables }: PusherKind): readonly string[] => executables.filter(isMissing)

interface Descriptor {
  readonly digest: string
  readonly size: number
}

describe('real clients push with a login, and pull again', { skip: skipFor(lackingForRig()) }, () => {
  let world: World
  let mirror: Mirror
  let digest: string
  const stack = new AsyncDisposableStack()
  const clients = new Map<string, PushClient>()

  before(async () => {
    world = stack.use(await World.open())
    const users = world.room.path('users')
    await writeFile(users, `${LOGIN.username}:${hashSync(LOGIN.password, 4)}\n`)
    mirror = stack.use(
      await Mirror.start(world, 'pushes', undefined, {
        sections: {
          hosted: [{ names: `${HOSTED}/**` }],
          auth: { htpasswd_file: users },
          rules: [
            { who: LOGIN.username, names: `${HOSTED}/team/**`, may: ['pull', 'push'] },
            { who: 'everyone', names: `${HOSTED}/**`, may_not: 'pull', reason: 'log in' },
          ],
        },
        tls: {},
      }),
    )
    const image = buildImage({
      greeting: 'pushed',
      types: 'oci',
      architectures: ['amd64', 'arm64'],
      layerBytes: [3_000_000, 20_000],
    })
    digest = image.root.digest
    await writeLayout(world.room.path('layout'), TAG, image)
    await runOk(['/usr/bin/tar', '-C', world.room.path('layout'), '-cf', world.room.path('layout.tar'), '.'])
  })

  after(async () => await stack.disposeAsync())

  const addressOf = (transport: PushSite['transport']): string =>
    transport === 'http' ? mirror.address : mirror.secureAddress

  const clientOf = async (kind: PusherKind, transport: PushSite['transport']): Promise<PushClient> => {
    const key = `${kind.name} ${transport}`
    const known = clients.get(key)
    if (known) return known
    const files = { layout: world.room.path('layout'), archive: world.room.path('layout.tar') }
    const where = { world, transport, address: addressOf(transport) }
    const client = stack.use(await kind.start({ ...where, ...LOGIN, ...files, tag: TAG, digest }))
    clients.set(key, client)
    return client
  }

  const get = async (path: string, login = true): Promise<{ status: number; bytes: Buffer }> => {
    const basic = Buffer.from(`${LOGIN.username}:${LOGIN.password}`).toString('base64')
    const headers = { accept: '*/*', ...(login ? { authorization: `Basic ${basic}` } : {}) }
    const response = await fetch(`http://${mirror.address}/v2/${HOSTED}/${path}`, { headers })
    return { status: response.status, bytes: Buffer.from(await response.arrayBuffer()) }
  }

  /** Proves a manifest and everything below it, as the mirror has it; returns its digest. */
  const prove = async (repository: string, reference: string): Promise<string> => {
    const { status, bytes } = await get(`${repository}/manifests/${reference}`)
    assert.equal(status, 200, `${repository}: ${reference}\n${mirror.output()}`)
    const manifest = JSON.parse(bytes.toString()) as {
      manifests?: Descriptor[]
      config?: Descriptor
      layers?: Descriptor[]
    }
    for (const child of manifest.manifests ?? [])
      assert.equal(await prove(repository, child.digest), child.digest)
    for (const blob of [...(manifest.config ? [manifest.config] : []), ...(manifest.layers ?? [])]) {
      const got = await get(`${repository}/blobs/${blob.digest}`)
      assert.equal(got.bytes.length, blob.size)
      assert.equal(sha256(got.bytes), blob.digest)
    }
    return sha256(bytes)
  }

  test('every pushing client is installed where it must run', () => {
    const lacking = KINDS.flatMap(kind => (skipFor(lackingFor(kind)) === false ? lackingFor(kind) : []))
    assert.deepEqual(lacking, [])
    const has = KINDS.filter(kind => lackingFor(kind).length === 0).map(({ name }) => name)
    console.log(`pushing clients here: ${has.join(', ')}`)
    for (const name of leftOut) console.log(`left out of this run: ${name}`)
  })

  for (const kind of KINDS) {
    const skip = skipFor(lackingFor(kind))

    for (const transport of ['http', 'https'] as const) {
      test(`${kind.name} pushes ${kind.what} over ${transport}, and pulls it again`, { skip }, async () => {
        const client = await clientOf(kind, transport)
        const repository = `team/${kind.name.replace('.', '-')}-${transport}`
        const mark = world.front.log.length
        const name = `${addressOf(transport)}/${HOSTED}/${repository}:${TAG}`
        const expected = await client.push(name)
        const actual = await prove(repository, TAG)
        if (expected !== undefined) assert.equal(actual, expected)
        await client.pullAgain(name)
        assert.equal((await get(`${repository}/manifests/${TAG}`, false)).status, 401)
        assert.deepEqual(world.logged(mark), [], 'a registry was asked for a hosted name')
      })
    }

    test(`${kind.name} is told when it may not push`, { skip }, async () => {
      const client = await clientOf(kind, 'http')
      const name = `${mirror.address}/${HOSTED}/closed/${kind.name}:${TAG}`
      await assert.rejects(client.push(name), /denied|forbidden|unauthorized|DENIED|403|401/i)
    })
  }
})

function sha256(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}
