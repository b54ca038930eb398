import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { hashSync } from 'bcryptjs'
import { type Finished, run } from './rig/child.ts'
import { GO_BIN } from './rig/clients/containerd.ts'
import { DOCKER_EXECUTABLES, startDockerd } from './rig/clients/dockerd.ts'
import { Mirror } from './rig/mirror.ts'
import { isMissing, lackingForRig, skipFor } from './rig/requirements.ts'
import { World } from './rig/world.ts'

const HELM = join(GO_BIN, 'helm')
const PASSWORD = 'wonderland-7'

/** How a client logs in to a registry, and how it tells its user that the password is wrong. */
interface LoginCommand {
  readonly name: string
  readonly executables: readonly string[]
  readonly argv: readonly string[]
  readonly exitCode: number
  /** Docker and Helm show the sentence of the mirror; containers/image has its own. */
  readonly told: RegExp
}

const COMMANDS: readonly LoginCommand[] = [
  {
    name: 'docker',
    executables: DOCKER_EXECUTABLES,
    argv: ['docker', 'login'],
    exitCode: 1,
    told: /unauthorized: the password is wrong/,
  },
  {
    name: 'podman',
    executables: ['podman'],
    argv: ['podman', 'login'],
    exitCode: 125,
    told: /invalid username\/password/,
  },
  {
    name: 'buildah',
    executables: ['buildah'],
    argv: ['buildah', 'login'],
    exitCode: 125,
    told: /invalid username\/password/,
  },
  {
    name: 'skopeo',
    executables: ['skopeo'],
    argv: ['skopeo', 'login'],
    exitCode: 1,
    told: /invalid username\/password/,
  },
  {
    name: 'helm',
    executables: [HELM],
    argv: [HELM, 'registry', 'login'],
    exitCode: 1,
    told: /unauthorized: the password is wrong/,
  },
]

describe('real clients log in by their own command over TLS', { skip: skipFor(lackingForRig()) }, () => {
  let world: World
  let users: string
  const stack = new AsyncDisposableStack()

  before(async () => {
    world = stack.use(await World.open())
    users = world.room.path('users')
    await writeFile(users, `alice:${hashSync(PASSWORD, 4)}\n`, { mode: 0o600 })
  })

  after(async () => await stack.disposeAsync())

  for (const { name, executables, argv, exitCode, told } of COMMANDS) {
    const skip = skipFor(executables.filter(isMissing))
    test(`${name} shows that a password is wrong, and takes the right one`, { skip }, async () => {
      // A mirror for each: it answers the sixth wrong password in a row from one address with 503.
      await using mirror = await Mirror.start(world, `login-${name}`, undefined, {
        sections: {
          auth: { htpasswd_file: users },
          rules: [
            { who: 'alice', names: 'ghcr.io/**', may: 'pull' },
            { who: 'everyone', names: 'ghcr.io/**', may_not: 'pull' },
          ],
        },
        tls: {},
      })
      await using owned = new AsyncDisposableStack()
      const env: Record<string, string> = {
        HOME: await world.room.makeDirectory(`login-${name}`),
        SSL_CERT_FILE: world.certificates.caFile,
      }
      if (name === 'docker') {
        const docker = await startDockerd(world, undefined, 'login-dockerd')
        owned.defer(docker.stop)
        env['DOCKER_HOST'] = docker.socket
      }
      const login = async (password: string): Promise<Finished> => {
        const words = [...argv, '--username', 'alice', '--password', password, mirror.secureAddress]
        return await run(world.room.inside(words), { env })
      }
      const wrong = await login('looking-glass')
      assert.equal(wrong.code, exitCode)
      assert.match(wrong.stderr, told)
      const right = await login(PASSWORD)
      assert.equal(right.code, 0, right.stderr)
      assert.match(`${right.stdout}${right.stderr}`, /Login Succeeded/)
    })
  }
})
