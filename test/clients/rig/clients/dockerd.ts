import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Child, run, runOk } from '../child.ts'
import type { Network } from '../network.ts'
import type { World } from '../world.ts'
import { labelOf, type Puller, type PullerKind } from './puller.ts'

/** What a dockerd needs. */
export const DOCKER_EXECUTABLES = ['dockerd', 'docker', 'containerd', 'runc']

/**
 * dockerd with `registry-mirrors`; only Docker Hub goes to a mirror. One connection per request, no `?ns=`.
 */
export const dockerd: PullerKind = {
  name: 'dockerd',
  executables: DOCKER_EXECUTABLES,
  agent: 'docker/',
  mirrorsOnlyDockerHub: true,
  start: async (world, mirror) => {
    const docker = await startDockerd(world, mirror, 'dockerd')
    return {
      pull: async image => void (await docker.attempt('pull', image)),
      forget: async image => void (await docker.attempt('rmi', '--force', image)),
      run: async image => await docker.attempt('run', '--rm', '--network', 'none', image),
      [Symbol.asyncDispose]: docker.stop,
    } satisfies Puller
  },
}

/**
 * BuildKit in dockerd: `registry-mirrors` again, but with containerd's resolver, so `?ns=` and connections
 * that are kept.
 */
export const buildkit: PullerKind = {
  name: 'BuildKit',
  executables: DOCKER_EXECUTABLES,
  agent: 'containerd/',
  mirrorsOnlyDockerHub: true,
  start: async (world, mirror) => {
    const docker = await startDockerd(world, mirror, 'buildkit')
    const context = await world.room.makeDirectory(`${labelOf('buildkit', mirror)}/context`)
    return {
      pull: async image => {
        // The copy makes BuildKit fetch the layers: for a bare FROM it would leave them where they are.
        await writeFile(join(context, 'Dockerfile'), `FROM ${image}\nCOPY Dockerfile /\n`)
        await docker.attempt('build', '--tag', 'built', '--progress', 'plain', context)
      },
      forget: async () => {
        await docker.attempt('rmi', '--force', 'built')
        await docker.attempt('builder', 'prune', '--all', '--force')
      },
      [Symbol.asyncDispose]: docker.stop,
    } satisfies Puller
  },
}

interface Docker {
  /** Address for `DOCKER_HOST`. */
  readonly socket: string
  /** Runs a command of the client and returns what it printed; a failure also tells what the daemon said. */
  readonly attempt: (...args: readonly string[]) => Promise<string>
  readonly stop: () => Promise<void>
}

/** Starts a dockerd, with a mirror or without, in the network of the machine or in another one. */
export async function startDockerd(
  world: World,
  mirror: string | undefined,
  kind: string,
  network?: Network,
): Promise<Docker> {
  const name = labelOf(kind, mirror)
  const directory = await world.room.makeDirectory(name)
  const socket = `unix://${join(directory, 'docker.sock')}`
  const file = join(directory, 'daemon.json')
  const configuration = {
    'data-root': join(directory, 'data'),
    'exec-root': join(directory, 'exec'),
    pidfile: join(directory, 'pid'),
    hosts: [socket],
    'registry-mirrors': mirror === undefined ? [] : [`http://${mirror}`],
    'storage-driver': 'vfs',
    iptables: false,
    bridge: 'none',
  }
  await writeFile(file, JSON.stringify(configuration))
  const home = await world.room.makeDirectory(`${name}/home`)
  const env = { HOME: home, SSL_CERT_FILE: world.certificates.caFile, DOCKER_BUILDKIT: '1' }
  const argv = ['dockerd', '--config-file', file]
  const daemon = new Child(name, network?.inside(argv) ?? world.room.inside(argv), { env })
  const docker = (args: readonly string[]): string[] =>
    world.room.inside(['docker', '--host', socket, ...args])
  await daemon.ready(async () => (await run(docker(['info']), { env })).code === 0)
  return {
    socket,
    attempt: async (...args) => {
      return await runOk(docker(args), { env }).catch((error: unknown) => {
        throw new Error(`${name} said:\n${daemon.output(20)}`, { cause: error })
      })
    },
    stop: async () => await daemon.stop(),
  }
}
