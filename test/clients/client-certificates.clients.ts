import assert from 'node:assert/strict'
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import { makeClientCertificate } from './rig/certificates.ts'
import { Child, runOk } from './rig/child.ts'
import { GO_BIN } from './rig/clients/containerd.ts'
import { DOCKER_EXECUTABLES, startDockerd } from './rig/clients/dockerd.ts'
import { buildImage } from './rig/image.ts'
import { Mirror } from './rig/mirror.ts'
import { Network } from './rig/network.ts'
import { isMissing, lackingForRig, skipFor } from './rig/requirements.ts'
import { DOCKER_MIRROR_NAME, World } from './rig/world.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const REGCTL = join(GO_BIN, 'regctl')
const HELM = join(GO_BIN, 'helm')
/** Nothing else is in the network of the mirror that has this port. */
const PORT = 8443
const HOSTED = 'registry.example.com'
const REFUSAL = /401|403|denied|unauthorized|authentication required|authorization failed/i

/** A folder of certificates as Docker's family wants it: `ca.crt`, and `client.cert` with `client.key`. */
interface Folder {
  readonly path: string
  readonly hasCertificate: boolean
}

interface Site {
  readonly world: World
  readonly host: string
  readonly run: (...argv: readonly string[]) => Promise<string>
  readonly scratch: string
}

interface Client {
  readonly name: string
  readonly executables: readonly string[]
  /** Takes a private thing from the mirror, by the certificate of the folder if that has one. */
  readonly pull: (site: Site, folder: Folder) => Promise<void>
}

const CLIENTS: readonly Client[] = [
  {
    name: 'podman',
    executables: ['podman', 'runc', 'conmon'],
    pull: async ({ run, host, scratch }, { path }) => {
      const storage = ['--root', `${scratch}/s`, '--runroot', `${scratch}/r`, '--storage-driver', 'vfs']
      await run('podman', ...storage, 'pull', '--cert-dir', path, `${host}/ghcr.io/team/private:1`)
    },
  },
  {
    name: 'skopeo',
    executables: ['skopeo'],
    pull: async ({ run, host, scratch }, { path }) => {
      const source = `docker://${host}/ghcr.io/team/private:1`
      await run('skopeo', 'copy', '--src-cert-dir', path, source, `dir:${scratch}/pulled`)
    },
  },
  {
    name: 'regctl',
    executables: [REGCTL],
    pull: async ({ run, host, scratch }, { path, hasCertificate }) => {
      const text = async (name: string): Promise<string> => await readFile(join(path, name), 'utf8')
      const own = hasCertificate
        ? ['--client-cert', await text('client.cert'), '--client-key', await text('client.key')]
        : []
      await run(REGCTL, 'registry', 'set', host, ...own)
      await run(REGCTL, 'image', 'export', `${host}/ghcr.io/team/private:1`, `${scratch}/pulled.tar`)
    },
  },
  {
    name: 'helm',
    executables: [HELM],
    pull: async ({ run, host, scratch }, { path, hasCertificate }) => {
      const chart = join(scratch, 'private')
      await mkdir(chart, { recursive: true })
      await writeFile(join(chart, 'Chart.yaml'), 'apiVersion: v2\nname: private\nversion: 1.0.0\n')
      await run(HELM, 'package', chart, '--destination', scratch)
      const own = ['--cert-file', join(path, 'client.cert'), '--key-file', join(path, 'client.key')]
      const flags = ['--ca-file', join(path, 'ca.crt'), ...(hasCertificate ? own : [])]
      const folder = `oci://${host}/${HOSTED}/charts`
      await run(HELM, 'push', join(scratch, 'private-1.0.0.tgz'), folder, ...flags)
      await run(HELM, 'pull', `${folder}/private`, '--version', '1.0.0', '--destination', chart, ...flags)
    },
  },
]

describe('real clients show a client certificate', { skip: skipFor(lackingForRig()) }, () => {
  let world: World
  let sections: Readonly<Record<string, unknown>>
  let folders: Readonly<Record<'none' | 'other' | 'right', Folder>>
  const stack = new AsyncDisposableStack()

  before(async () => {
    world = stack.use(await World.open())
    const names = ['ghcr.io/team/private', `${HOSTED}/**`]
    sections = {
      hosted: [{ names: `${HOSTED}/**` }],
      rules: [
        { who: 'cert:build-7', names, may: ['pull', 'push'] },
        { who: 'everyone', names, may_not: 'pull' },
      ],
    }
    folders = {
      none: await makeFolder(world, undefined),
      other: await makeFolder(world, 'build-8'),
      right: await makeFolder(world, 'build-7'),
    }
    const image = {
      greeting: 'private',
      types: 'oci',
      architectures: ['amd64'],
      layerBytes: [50_000],
    } as const
    await world.push('ghcr.io/team/private:1', buildImage(image))
  })

  after(async () => await stack.disposeAsync())

  describe('of which the rules know the name', () => {
    let mirror: Mirror

    before(async () => {
      const tls = { clientCaFile: world.certificates.caFile }
      mirror = stack.use(await Mirror.start(world, 'certificates', undefined, { sections, tls }))
    })

    for (const { name, executables, pull } of CLIENTS) {
      const skip = skipFor(executables.filter(isMissing))
      test(`${name} gets a private name by it, and nothing without or by another one`, { skip }, async () => {
        for (const [label, folder] of Object.entries(folders)) {
          // Podman takes no path of more than 50 characters for its storage.
          const scratch = await world.room.makeDirectory(`${name}-${label}`)
          const env = { HOME: scratch, SSL_CERT_FILE: world.certificates.caFile }
          const run = async (...argv: readonly string[]): Promise<string> =>
            await runOk(world.room.inside(argv), { env })
          const pulled = pull({ world, host: mirror.secureAddress, run, scratch }, folder)
          if (label === 'right') await pulled
          else await assert.rejects(pulled, error => REFUSAL.test(inspect(error)))
        }
      })
    }
  })

  // Docker reads no certificates for an address in 127.0.0.0/8, so it gets a network with another one.
  test('docker pushes and pulls by the one in certs.d, and nothing without', {
    skip: skipFor(DOCKER_EXECUTABLES.filter(isMissing)),
  }, async () => {
    await using owned = new AsyncDisposableStack()
    const network = owned.use(await Network.open(world))
    const host = `${DOCKER_MIRROR_NAME}:${PORT}`
    owned.use(await startIn(network, world, sections))
    const etc = await world.room.makeDirectory('docker-etc')
    await runOk(world.room.inside(['mount', '--bind', etc, '/etc/docker']))
    const docker = await startDockerd(world, undefined, 'docker-certificates', network)
    owned.defer(docker.stop)
    const image = `${host}/${HOSTED}/team/app:1`
    const context = await world.room.makeDirectory('docker-certificates-context')
    await writeFile(join(context, 'Dockerfile'), 'FROM scratch\nCOPY Dockerfile /\n')
    await docker.attempt('build', '--tag', image, context)
    const certs = join(etc, 'certs.d', host)
    await mkdir(certs, { recursive: true })
    await copyFile(join(folders.none.path, 'ca.crt'), join(certs, 'ca.crt'))
    await assert.rejects(docker.attempt('push', image), error => REFUSAL.test(inspect(error)))
    for (const name of ['client.cert', 'client.key']) {
      await copyFile(join(folders.right.path, name), join(certs, name))
    }
    await docker.attempt('push', image)
    await docker.attempt('rmi', '--force', image)
    await docker.attempt('builder', 'prune', '--all', '--force')
    await docker.attempt('pull', image)
  })
})

/** A mirror at {@link DOCKER_MIRROR_NAME}, which the test itself cannot reach. */
async function startIn(
  network: Network,
  { room, certificates, addresses }: World,
  sections: Readonly<Record<string, unknown>>,
): Promise<Child> {
  const file = room.path('docker-mirror.yaml')
  // JSON is YAML.
  await writeFile(file, JSON.stringify(sections))
  const { caFile, certificateFile, keyFile } = certificates
  const listen = ['--listen-tls', `${addresses.get(DOCKER_MIRROR_NAME)}:${PORT}`, '--admin-listen', 'off']
  const tls = ['--tls-cert', certificateFile, '--tls-key', keyFile, '--tls-client-ca', caFile]
  const store = ['filesystem', '--root', await room.makeDirectory('docker-mirror')]
  const argv = [process.execPath, MAIN, ...listen, ...tls, '--upstream-config-file', file, ...store]
  const child = new Child('the mirror', network.inside(argv))
  await child.ready(async () => await Promise.resolve(child.output().includes('"msg":"listening"')))
  return child
}

async function makeFolder(world: World, commonName: string | undefined): Promise<Folder> {
  const path = await world.room.makeDirectory(`certs-${commonName ?? 'none'}`)
  await copyFile(world.certificates.caFile, join(path, 'ca.crt'))
  if (commonName === undefined) return { path, hasCertificate: false }
  const { certFile, keyFile } = await makeClientCertificate(world.room.directory, commonName)
  await copyFile(certFile, join(path, 'client.cert'))
  await copyFile(keyFile, join(path, 'client.key'))
  return { path, hasCertificate: true }
}
