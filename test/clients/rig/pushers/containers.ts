import { rm } from 'node:fs/promises'
import { type PushClient, type PusherKind, type PushSite, programOf } from './pusher.ts'

/** Podman and Buildah: the same library and nearly the same words. */
function storagePusher(name: 'podman' | 'buildah'): PusherKind {
  return {
    name,
    what: 'an image of its own storage',
    executables: [name],
    start: async site => {
      const { world, transport, address, username, password, archive } = site
      const run = await programOf(site, name)
      const root = await world.room.makeDirectory(`push-${name}-${transport}`)
      // Podman takes no path of more than 50 characters there.
      const storage = ['--root', `${root}/root`, '--runroot', `${root}/run`, '--storage-driver', 'vfs']
      const command = async (...args: readonly string[]): Promise<string> =>
        await run(name, ...storage, ...args)
      const verify = `--tls-verify=${transport === 'https'}`
      await command('login', '--username', username, '--password', password, verify, address)
      const id = (await command('pull', '--quiet', `oci-archive:${archive}`)).trim().split('\n').at(-1) ?? ''
      return {
        push: async image => {
          await command('push', verify, id, `docker://${image}`)
          return undefined
        },
        pullAgain: async image => {
          await command('rmi', '--force', id)
          await command('pull', '--quiet', verify, `docker://${image}`)
        },
        [Symbol.asyncDispose]: async () => await Promise.resolve(),
      }
    },
  }
}

async function startSkopeo(site: PushSite): Promise<PushClient> {
  const { world, transport, username, password, layout, tag, digest } = site
  const run = await programOf(site, 'skopeo')
  const directory = world.room.path('push-skopeo-pulled')
  const login = (end: 'src' | 'dest'): string[] => {
    return [`--${end}-tls-verify=${transport === 'https'}`, `--${end}-creds`, `${username}:${password}`]
  }
  return {
    push: async image => {
      await run(
        'skopeo',
        'copy',
        '--all',
        '--preserve-digests',
        ...login('dest'),
        `oci:${layout}:${tag}`,
        `docker://${image}`,
      )
      return digest
    },
    pullAgain: async image => {
      await run('skopeo', 'copy', '--all', ...login('src'), `docker://${image}`, `dir:${directory}`)
      await rm(directory, { recursive: true })
    },
    [Symbol.asyncDispose]: async () => await Promise.resolve(),
  }
}

/** Podman's family. */
export const CONTAINERS: readonly PusherKind[] = [
  storagePusher('podman'),
  storagePusher('buildah'),
  { name: 'skopeo', what: 'an index of two platforms', executables: ['skopeo'], start: startSkopeo },
]
