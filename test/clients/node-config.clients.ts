import assert from 'node:assert/strict'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Child, run, runOk } from './rig/child.ts'
import { containerd24, cri, GO_BIN } from './rig/clients/containerd.ts'
import { type CriImages, connectCri } from './rig/clients/cri.ts'
import type { PullerKind } from './rig/clients/puller.ts'
import { buildImage } from './rig/image.ts'
import { Mirror } from './rig/mirror.ts'
import { lackingFor, lackingForRig, skipFor } from './rig/requirements.ts'
import { World } from './rig/world.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const CERTS = '/etc/containerd/certs.d'

interface Release {
  readonly kind: PullerKind
  readonly containerd: string
  readonly ctr: string
  /** Format of its configuration, and the plugin that pulls. */
  readonly format: readonly [version: number, plugin: string]
}

const RELEASES: readonly Release[] = [
  { kind: cri, containerd: 'containerd', ctr: 'ctr', format: [2, 'io.containerd.grpc.v1.cri'] },
  {
    kind: containerd24,
    containerd: join(GO_BIN, 'containerd'),
    ctr: join(GO_BIN, 'ctr'),
    format: [3, 'io.containerd.cri.v1.images'],
  },
]

describe('the runtime of a node goes where node-config sends it', { skip: skipFor(lackingForRig()) }, () => {
  let world: World
  const stack = new AsyncDisposableStack()

  before(async () => {
    world = stack.use(await World.open())
  })

  after(async () => {
    await stack.disposeAsync()
  })

  for (const { kind, containerd, ctr, format } of RELEASES) {
    describe(kind.name, { skip: skipFor(lackingFor(kind)) }, () => {
      let daemon: Child
      let images: CriImages
      let etc: string

      before(async () => {
        const { room, certificates } = world
        const env = { SSL_CERT_FILE: certificates.caFile }
        const directory = await room.makeDirectory(`node-${kind.name}`)
        etc = await room.makeDirectory(`node-${kind.name}/etc`)
        const socket = join(directory, 'containerd.sock')
        await writeFile(join(etc, 'config.toml'), configText(directory, socket, format))
        await runOk(room.inside(['mount', '--bind', etc, '/etc/containerd']))
        daemon = new Child(kind.name, room.inside([containerd, '--config', '/etc/containerd/config.toml']), {
          env,
        })
        const version = room.inside([ctr, '--address', socket, 'version'])
        await daemon.ready(async () => (await run(version)).code === 0)
        images = await connectCri(socket)
      })

      after(async () => {
        images.close()
        await daemon.stop()
        await runOk(world.room.inside(['umount', '/etc/containerd']))
      })

      /** Pulls a new image of a registry; resolves to the requests that went past the mirror. */
      const pull = async (tag: string): Promise<number> => {
        const name = `ghcr.io/team/node-${kind.name.toLowerCase()}:${tag}`
        const options = { types: 'oci', architectures: ['amd64'], layerBytes: [50_000] } as const
        await world.push(name, buildImage({ greeting: name, ...options }))
        const mark = world.front.log.length
        await images.pullImage(name)
        return world.bypasses(mark).length
      }

      test('it pulls through the mirror, goes directly once the mirror is dead for the limit, and comes back', async () => {
        await using owned = new AsyncDisposableStack()
        const mirror = await Mirror.start(world, `node-${kind.name}`)
        const { port } = mirror
        const flags = ['--mirror', `http://${mirror.address}`]
        const argv = (...more: readonly string[]): string[] =>
          world.room.inside([process.execPath, MAIN, 'node-config', ...flags, ...more])
        await runOk(argv('--once'))
        assert.equal(await pull('through'), 0)
        const times = ['--interval', '1s', '--unhealthy-after', '2s', '--healthy-after', '1s']
        const loop = owned.use(new Child('node-config', argv(...times, '--remove-on-exit')))
        const isWritten = async (): Promise<boolean> =>
          (await readdir(join(etc, 'certs.d'))).includes('_default')
        await loop.ready(isWritten)
        await mirror[Symbol.asyncDispose]()
        await loop.ready(async () => !(await isWritten()))
        assert.ok((await pull('directly')) > 0)
        owned.use(await Mirror.start(world, `node-${kind.name}`, port))
        await loop.ready(isWritten)
        assert.equal(await pull('again'), 0)
        await loop.stop()
        assert.deepEqual(await readdir(join(etc, 'certs.d')), [])
      })
    })
  }
})

function configText(directory: string, socket: string, [version, plugin]: Release['format']): string {
  const snapshotter =
    version === 2
      ? `[plugins."${plugin}".containerd]\n  snapshotter = "native"`
      : `[plugins."${plugin}"]\n  snapshotter = "native"\n  use_local_image_pull = true`
  return `version = ${version}
root = "${join(directory, 'root')}"
state = "${join(directory, 'state')}"
[grpc]
  address = "${socket}"
[ttrpc]
  address = "${socket}.ttrpc"
${snapshotter}
[plugins."${plugin}".registry]
  config_path = "${CERTS}"
[plugins."io.containerd.internal.v1.opt"]
  path = "${join(directory, 'opt')}"
`
}
