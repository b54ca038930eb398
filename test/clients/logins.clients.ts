import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { inspect } from 'node:util'
import { hashSync } from 'bcryptjs'
import type { Puller, PullerKind, PullLogin } from './rig/clients/puller.ts'
import { crane, regctl } from './rig/clients/tools.ts'
import { buildImage } from './rig/image.ts'
import { Mirror } from './rig/mirror.ts'
import { KINDS, lackingFor, lackingForRig, skipFor } from './rig/requirements.ts'
import { World } from './rig/world.ts'

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
  let mirror: Mirror
  let host: string
  const stack = new AsyncDisposableStack()
  const pullers = new Map<PullerKind, Puller>()
  const kinds = CLIENTS.filter(kind => skipFor(lackingFor(kind)) === false)

  before(async () => {
    world = stack.use(await World.open())
    mirror = stack.use(await startMirror(world))
    host = mirror.secureAddress
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
async function startMirror(world: World): Promise<Mirror> {
  const file = world.room.path('users')
  const users = ['alice', 'bob'].map(user => `${user}:${hashSync(PASSWORD, 4)}\n`)
  await writeFile(file, users.join(''), { mode: 0o600 })
  const rules = [
    { who: 'alice', names: 'ghcr.io/team/private', may: 'pull' },
    { who: 'everyone', names: 'ghcr.io/team/private', may_not: 'pull' },
  ]
  const sections = { auth: { htpasswd_file: file }, rules }
  return await Mirror.start(world, 'logins', undefined, { sections, tls: {} })
}
