import assert from 'node:assert/strict'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { hashSync } from 'bcryptjs'
import { type ClientCertificate, makeClientCertificate } from './rig/certificates.ts'
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
const PASSWORD = 'wonderland-7'

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
  let certificate: ClientCertificate
  let passwordFile: string
  const stack = new AsyncDisposableStack()

  before(async () => {
    world = stack.use(await World.open())
    certificate = await makeClientCertificate(world.room.directory, 'node-7')
    passwordFile = world.room.path('password')
    await writeFile(passwordFile, PASSWORD, { mode: 0o600 })
    await writeFile(world.room.path('users'), `alice:${hashSync(PASSWORD, 4)}\n`, { mode: 0o600 })
  })

  after(async () => {
    await stack.disposeAsync()
  })

  for (const { kind, containerd, ctr, format } of RELEASES) {
    describe(kind.name, { skip: skipFor(lackingFor(kind)) }, () => {
      let daemon: Child
      let images: CriImages
      let etc: string
      let daemonSocket: string

      before(async () => {
        const { room, certificates } = world
        const env = { SSL_CERT_FILE: certificates.caFile }
        const directory = await room.makeDirectory(`node-${kind.name}`)
        etc = await room.makeDirectory(`node-${kind.name}/etc`)
        const socket = join(directory, 'containerd.sock')
        daemonSocket = socket
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

      const nodeConfig = (...words: readonly string[]): string[] =>
        world.room.inside([process.execPath, MAIN, 'node-config', ...words])

      /** Pulls a new image of a registry; resolves to the requests that went past the mirror. */
      const pull = async (tag: string, by = pullByCri): Promise<number> => {
        const name = `ghcr.io/team/node-${kind.name.toLowerCase()}:${tag}`
        const options = { types: 'oci', architectures: ['amd64'], layerBytes: [50_000] } as const
        await world.push(name, buildImage({ greeting: name, ...options }))
        const mark = world.front.log.length
        await by(name)
        return world.bypasses(mark).length
      }

      const pullByCri = async (name: string): Promise<void> => await images.pullImage(name)

      const pullByCtr = async (name: string): Promise<void> => {
        const words = ['images', 'pull', '--snapshotter', 'native', '--hosts-dir', CERTS, name]
        const env = { SSL_CERT_FILE: world.certificates.caFile }
        await runOk(world.room.inside([ctr, '--address', daemonSocket, ...words]), { env })
      }

      test('it pulls through the mirror, goes directly once the mirror is dead for the limit, and comes back', async () => {
        await using owned = new AsyncDisposableStack()
        const mirror = await Mirror.start(world, `node-${kind.name}`)
        const { port } = mirror
        const flags = ['--mirror', `http://${mirror.address}`]
        await runOk(nodeConfig(...flags, '--once'))
        assert.equal(await pull('through'), 0)
        const times = ['--interval', '1s', '--unhealthy-after', '2s', '--healthy-after', '1s']
        const loop = owned.use(new Child('node-config', nodeConfig(...flags, ...times, '--remove-on-exit')))
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

      test('it shows a mirror with TLS the login or the client certificate that node-config was given', async () => {
        await using mirror = await startClosedMirror(world, `node-closed-${kind.name}`)
        const flags = ['--mirror', `https://${mirror.secureAddress}`, '--ca', world.certificates.caFile]
        const { certFile, keyFile } = certificate
        const ways = [
          { words: [], identity: undefined },
          { words: ['--username', 'alice', '--password-file', passwordFile], identity: 'alice' },
          { words: ['--client-cert', certFile, '--client-key', keyFile], identity: 'cert:node-7' },
        ] as const
        for (const { words, identity } of ways) {
          await runOk(nodeConfig(...flags, ...words, '--once'))
          const seen = mirror.lines().length
          const label = identity?.replace(':', '-') ?? 'anonymous'
          const past = [await pull(`${label}-cri`), await pull(`${label}-ctr`, pullByCtr)]
          if (identity === undefined) assert.ok(past.every(requests => requests > 0))
          else assert.deepEqual(past, [0, 0], mirror.output())
          const manifests = mirror
            .lines()
            .slice(seen)
            .filter(line => line.includes('"resource":"manifest"'))
          assert.ok(manifests.some(line => line.includes(`"identity":"${identity ?? 'anonymous'}"`)))
          await runOk(nodeConfig('--remove'))
        }
      })
    })
  }
})

/** A mirror with TLS from which two senders may pull, one by a password and one by a certificate. */
async function startClosedMirror(world: World, name: string): Promise<Mirror> {
  const rules = [
    { who: ['alice', 'cert:node-7'], names: 'ghcr.io/**', may: 'pull' },
    { who: 'everyone', names: 'ghcr.io/**', may_not: 'pull' },
  ]
  const sections = { auth: { htpasswd_file: world.room.path('users') }, rules }
  const tls = { clientCaFile: world.certificates.caFile }
  return await Mirror.start(world, name, undefined, { sections, tls })
}

function configText(directory: string, socket: string, [version, plugin]: Release['format']): string {
  const snapshotter =
    version === 2
      ? `[plugins."${plugin}".containerd]\n  snapshotter = "native"`
      : `[plugins."${plugin}"]
  snapshotter = "native"
  use_local_image_pull = true
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/amd64"
  snapshotter = "native"`
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
