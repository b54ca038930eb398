import assert from 'node:assert/strict'
import { cp, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { hashSync } from 'bcryptjs'
import { type ClientCertificate, makeClientCertificate } from './rig/certificates.ts'
import { runOk } from './rig/child.ts'
import { podman, skopeo } from './rig/clients/containers-image.ts'
import { dockerd, startDockerd } from './rig/clients/dockerd.ts'
import { buildImage } from './rig/image.ts'
import { Mirror } from './rig/mirror.ts'
import { lackingFor, lackingForRig, skipFor } from './rig/requirements.ts'
import { World } from './rig/world.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const PASSWORD = 'wonderland-7'
const CONFIGURED = 'etc/containers/registries.conf.d/50-entrepot.conf'

/** What the mirror is shown, and the sender that it takes it for; nothing means that it refuses the pull. */
interface Way {
  readonly title: string
  readonly words: (certificate: ClientCertificate) => readonly string[]
  readonly identity: string | undefined
}

const WAYS: readonly Way[] = [
  { title: 'without a login', words: () => [], identity: undefined },
  {
    title: 'with the login of the mirror in auth.json',
    words: () => ['--username', 'alice', '--password-file', '/password'],
    identity: 'alice',
  },
  {
    title: 'with a client certificate in certs.d',
    words: ({ certFile, keyFile }) => ['--client-cert', certFile, '--client-key', keyFile],
    identity: 'cert:build-7',
  },
]

describe('a mirror that wants a login is used as a configured mirror', {
  skip: skipFor(lackingForRig()),
}, () => {
  let world: World
  let mirror: Mirror
  let certificate: ClientCertificate
  const stack = new AsyncDisposableStack()

  before(async () => {
    world = stack.use(await World.open())
    const { room, certificates } = world
    certificate = await makeClientCertificate(room.directory, 'build-7')
    await writeFile(room.path('users'), `alice:${hashSync(PASSWORD, 4)}\n`, { mode: 0o600 })
    const names = ['docker.io/library/**', 'ghcr.io/**']
    const rules = [
      { who: ['alice', 'cert:build-7'], names, may: 'pull' },
      { who: 'everyone', names, may_not: 'pull' },
    ]
    const sections = { auth: { htpasswd_file: room.path('users') }, rules }
    const tls = { clientCaFile: certificates.caFile }
    mirror = stack.use(await Mirror.start(world, 'closed', undefined, { sections, tls }))
  })

  after(async () => await stack.disposeAsync())

  /** Pulls a new image; asserts that it came through the mirror as that sender, or past it. */
  const assertPulledAs = async (
    identity: string | undefined,
    name: string,
    pull: (name: string) => Promise<unknown>,
  ): Promise<void> => {
    const plan = { types: 'oci', architectures: ['amd64'], layerBytes: [50_000] } as const
    await world.push(name, buildImage({ greeting: name, ...plan }))
    const seen = mirror.lines().length
    const mark = world.front.log.length
    await pull(name)
    const answered = mirror.lines().slice(seen)
    if (identity === undefined) {
      assert.ok(world.bypasses(mark).length > 0, 'the registry was not asked by the client itself')
      assert.ok(!answered.some(line => line.includes('"resource":"blob"')), mirror.output())
    } else {
      assert.deepEqual(world.bypasses(mark), [], 'the client went past the mirror')
      assert.ok(
        answered.some(line => line.includes(`"identity":"${identity}"`)),
        mirror.output(),
      )
    }
  }

  for (const kind of [podman, skopeo]) {
    for (const [index, { title, words, identity }] of WAYS.entries()) {
      test(`${kind.name} ${title}`, { skip: skipFor(lackingFor(kind)) }, async () => {
        const { room, certificates } = world
        const label = `${kind.name}-${(identity ?? 'anonymous').replace(':', '-')}`
        // Podman takes no path of more than 50 characters for its storage.
        const root = await room.makeDirectory(`${kind.name}-${index}`)
        await writeFile(join(root, 'password'), PASSWORD, { mode: 0o600 })
        const host = mirror.secureAddress
        const flags = ['--mirror', `https://${host}`, '--ca', certificates.caFile, '--namespace', 'ghcr.io']
        const written = ['--root', root, '--write', ...words(certificate)]
        await runOk(room.inside([process.execPath, MAIN, 'setup', 'podman', ...flags, ...written]))
        if (identity?.startsWith('cert:')) await linkCertificate(root, host, certificate)
        await useContainers(world, root)
        const env = { HOME: join(root, 'root'), SSL_CERT_FILE: certificates.caFile }
        const argv = kind === podman ? podmanPull(root) : skopeoCopy(root)
        await assertPulledAs(identity, `ghcr.io/team/${label}:1`, async name => {
          await runOk(room.inside(argv(name)), { env })
        })
      })
    }
  }

  describe('Docker with registry-mirrors', { skip: skipFor(lackingFor(dockerd)) }, () => {
    let docker: Awaited<ReturnType<typeof startDockerd>>

    before(async () => {
      docker = await startDockerd(world, mirror.address, 'closed-dockerd')
      stack.defer(docker.stop)
    })

    const HUB = 'https://index.docker.io/v1/'
    const logins = [
      { title: 'without a login', host: undefined, identity: undefined },
      { title: 'with a login of the mirror', host: 'the mirror', identity: undefined },
      { title: 'with a login of Docker Hub that is one of the mirror too', host: HUB, identity: 'alice' },
    ] as const
    for (const [index, { title, host, identity }] of logins.entries()) {
      test(title, async () => {
        const home = world.room.path('closed-dockerd/home/.docker')
        await mkdir(home, { recursive: true })
        const key = host === 'the mirror' ? mirror.address : host
        const auth = btoa(`alice:${PASSWORD}`)
        const auths = key === undefined ? {} : { [key]: { auth } }
        await writeFile(join(home, 'config.json'), JSON.stringify({ auths }))
        await assertPulledAs(identity, `docker.io/library/closed-${index}:1`, async name => {
          await docker.attempt('pull', name)
        })
      })
    }
  })
})

/** Puts what was written below a directory into the place of the room's /etc/containers. */
async function useContainers({ room }: World, root: string): Promise<void> {
  await runOk([
    '/usr/bin/rm',
    '-rf',
    room.path('containers/certs.d'),
    room.path('containers/registries.conf.d'),
  ])
  await cp(join(root, 'etc/containers'), room.path('containers'), { recursive: true })
}

/** Does what the note of `entrepot setup podman` says. */
async function linkCertificate(root: string, host: string, files: ClientCertificate): Promise<void> {
  const directory = join(root, 'etc/containers/certs.d', host)
  await mkdir(directory, { recursive: true })
  await symlink(files.certFile, join(directory, 'client.cert'))
  await symlink(files.keyFile, join(directory, 'client.key'))
}

function podmanPull(root: string): (name: string) => readonly string[] {
  const storage = ['--root', `${root}/s`, '--runroot', `${root}/r`, '--tmpdir', `${root}/tmp`]
  const engine = ['--storage-driver', 'vfs', '--cgroup-manager', 'cgroupfs', '--events-backend', 'none']
  return name => ['podman', ...storage, ...engine, 'pull', name]
}

function skopeoCopy(root: string): (name: string) => readonly string[] {
  const registries = ['--registries-conf', join(root, CONFIGURED)]
  return name => ['skopeo', ...registries, 'copy', `docker://${name}`, `dir:${join(root, 'pulled')}`]
}
