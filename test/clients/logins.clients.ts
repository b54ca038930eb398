import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import { hashSync } from 'bcryptjs'
import { Child, run } from './rig/child.ts'
import type { Puller, PullerKind, PullLogin } from './rig/clients/puller.ts'
import { crane, regctl } from './rig/clients/tools.ts'
import { buildImage } from './rig/image.ts'
import { freePort } from './rig/ports.ts'
import { KINDS, lackingFor, lackingForRig, skipFor } from './rig/requirements.ts'
import { MIRROR_AGENT, MIRROR_NAME, World } from './rig/world.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const PASSWORD = 'wonderland-7'

/** What a client sends, and whether the pull of a public and of a private name succeeds. */
interface Situation {
  readonly title: string
  readonly login: PullLogin | undefined
  readonly isPublicPulled: boolean
  readonly isPrivatePulled: boolean
}

const SITUATIONS: readonly Situation[] = [
  { title: 'without a login', login: undefined, isPublicPulled: true, isPrivatePulled: false },
  {
    title: 'with a login of another registry',
    login: { username: 'hubuser', password: 'dckr_pat_x' },
    isPublicPulled: true,
    isPrivatePulled: false,
  },
  {
    title: 'with the right login',
    login: { username: 'alice', password: PASSWORD },
    isPublicPulled: true,
    isPrivatePulled: true,
  },
  {
    title: 'with the login of a user who may not',
    login: { username: 'bob', password: PASSWORD },
    isPublicPulled: true,
    isPrivatePulled: false,
  },
]

/** How clients say that a registry refuses a pull. */
const REFUSAL = /401|403|denied|unauthorized|authentication required|authorization failed/i

const CLIENTS: readonly PullerKind[] = [...KINDS, crane, regctl]

describe('real clients log in to a mirror with TLS', { skip: skipFor(lackingForRig()) }, () => {
  let world: World
  let mirror: Child
  let host: string
  const stack = new AsyncDisposableStack()
  const pullers = new Map<PullerKind, Puller>()
  const kinds = CLIENTS.filter(kind => skipFor(lackingFor(kind)) === false)

  before(async () => {
    world = stack.use(await World.open())
    const port = await freePort()
    host = `${MIRROR_NAME}:${port}`
    mirror = stack.use(await startMirror(world, port))
    for (const kind of kinds) pullers.set(kind, stack.use(await kind.start(world)))
    for (const name of ['public', 'private']) {
      const image = `ghcr.io/team/${name}:1`
      const plan = { greeting: image, types: 'oci', architectures: ['amd64'], layerBytes: [200_000] } as const
      await world.push(image, buildImage(plan))
    }
  })

  after(async () => {
    await stack.disposeAsync()
  })

  /** Docker's file, where all clients but containerd find logins. */
  const writeLogin = async (login: PullLogin | undefined): Promise<void> => {
    const auth = login === undefined ? '' : btoa(`${login.username}:${login.password}`)
    const text = JSON.stringify({ auths: login === undefined ? {} : { [host]: { auth } } })
    const homes = ['home', 'dockerd-direct/home', 'buildkit-direct/home']
    for (const home of homes) {
      const directory = world.room.path(home, '.docker')
      await mkdir(directory, { recursive: true })
      await writeFile(join(directory, 'config.json'), text)
    }
  }

  for (const kind of CLIENTS) {
    for (const { title, login, ...pulls } of SITUATIONS) {
      test(`${kind.name} ${title}`, { skip: skipFor(lackingFor(kind)) }, async () => {
        const puller = pullers.get(kind)
        assert.ok(puller)
        await writeLogin(login)
        const mark = world.logged().length
        for (const [name, isPulled] of [
          ['public', pulls.isPublicPulled],
          ['private', pulls.isPrivatePulled],
        ] as const) {
          const image = `${host}/ghcr.io/team/${name}:1`
          if (isPulled) {
            await puller.pull(image, login)
            await puller.forget(image)
          } else {
            await assert.rejects(puller.pull(image, login), error => REFUSAL.test(inspect(error)))
          }
        }
        assert.deepEqual(world.bypasses(mark), [], 'the client went past the mirror')
      })
    }
  }

  test('no password is in the log of the mirror', () => {
    const log = mirror.lines().join('\n')
    assert.match(log, /"action":"login","who":"alice"/)
    for (const secret of [PASSWORD, 'dckr_pat_x', btoa(`alice:${PASSWORD}`)]) assert.ok(!log.includes(secret))
  })
})

/** A mirror with TLS, two users, and one private name. */
async function startMirror({ room, certificates, addresses }: World, port: number): Promise<Child> {
  const directory = await room.makeDirectory('mirror-logins')
  const users = ['alice', 'bob'].map(user => `${user}:${hashSync(PASSWORD, 4)}\n`)
  await writeFile(join(directory, 'users'), users.join(''), { mode: 0o600 })
  const entry = { namespace: 'ghcr.io', host: 'ghcr.io', ca_file: certificates.caFile }
  const document = {
    upstreams: [{ ...entry, user_agent: MIRROR_AGENT, allow_addresses: ['127.0.0.0/8'] }],
    auth: { htpasswd_file: 'users' },
    rules: [
      { who: 'alice', names: 'ghcr.io/team/private', may: 'pull' },
      { who: 'everyone', names: 'ghcr.io/team/private', may_not: 'pull' },
    ],
  }
  const file = join(directory, 'upstreams.yaml')
  // JSON is YAML.
  await writeFile(file, JSON.stringify(document))
  const { certificateFile, keyFile } = certificates
  const listen = ['--listen', `${addresses.get(MIRROR_NAME)}:${port}`, '--admin-listen', 'off']
  const tls = ['--tls-cert', certificateFile, '--tls-key', keyFile, '--upstream-config-file', file]
  const argv = [process.execPath, MAIN, 'filesystem', '--root', join(directory, 'root'), ...listen, ...tls]
  const child = new Child('the mirror', room.inside(argv))
  const url = `https://${MIRROR_NAME}:${port}/livez`
  const asked = room.inside(['curl', '-fsS', '--cacert', certificates.caFile, url])
  await child.ready(async () => (await run(asked)).code === 0)
  return child
}
