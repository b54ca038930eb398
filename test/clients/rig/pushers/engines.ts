import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Containerd, containerd24, ctr, DEBIAN_CONTAINERD, NEWEST_CONTAINERD } from '../clients/containerd.ts'
import { DOCKER_EXECUTABLES, startDockerd } from '../clients/dockerd.ts'
import type { PusherKind } from './pusher.ts'

/** `docker push` of what the engine has built. */
const docker: PusherKind = {
  name: 'docker',
  what: 'an image that it built',
  executables: DOCKER_EXECUTABLES,
  start: async ({ world, transport, address, username, password }) => {
    const engine = await startDockerd(world, undefined, `docker-push-${transport}`)
    const context = await world.room.makeDirectory(`docker-push-context-${transport}`)
    await writeFile(join(context, 'Dockerfile'), 'FROM scratch\nCOPY Dockerfile /\nLABEL pushed=yes\n')
    await engine.attempt('login', '--username', username, '--password', password, address)
    return {
      push: async name => {
        await engine.attempt('build', '--tag', name, context)
        await engine.attempt('push', name)
        return undefined
      },
      pullAgain: async name => {
        await engine.attempt('rmi', '--force', name)
        await engine.attempt('builder', 'prune', '--all', '--force')
        await engine.attempt('pull', name)
      },
      [Symbol.asyncDispose]: engine.stop,
    }
  },
}

function containerdPusher(
  name: string,
  executables: readonly string[],
  release: typeof DEBIAN_CONTAINERD,
): PusherKind {
  return {
    name,
    what: 'an index of two platforms',
    executables,
    start: async site => {
      const { world, transport, username, password, archive, digest } = site
      const label = `push-${name}-${transport}`
      const daemon = await Containerd.start(world, { mirror: undefined, name: label, release })
      const ctr = async (...args: readonly string[]): Promise<string> => {
        const argv = [release.ctr, '--address', daemon.socket, '--namespace', 'push', ...args]
        return await daemon.attempt(world.room.inside(argv))
      }
      const way = transport === 'http' ? ['--plain-http'] : ['--hosts-dir', daemon.hostsDirectory]
      const login = [...way, '--user', `${username}:${password}`]
      return {
        push: async image => {
          const named = ['--base-name', image.replace(/:[^:/]+$/, ''), '--all-platforms', '--no-unpack']
          await ctr('images', 'import', ...named, archive)
          await ctr('images', 'push', ...login, image)
          return digest
        },
        pullAgain: async image => {
          await ctr('images', 'rm', '--sync', image)
          await ctr('images', 'pull', ...login, '--snapshotter', 'native', '--all-platforms', image)
        },
        [Symbol.asyncDispose]: async () => await daemon.stop(),
      }
    },
  }
}

/** Clients with a daemon of their own. */
export const ENGINES: readonly PusherKind[] = [
  docker,
  containerdPusher('ctr', ctr.executables, DEBIAN_CONTAINERD),
  containerdPusher('containerd-2.4', containerd24.executables, NEWEST_CONTAINERD),
]
