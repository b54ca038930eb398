import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Child, run, runOk } from '../child.ts'
import type { Puller, PullerKind } from './puller.ts'

/** dockerd with `registry-mirrors`; only Docker Hub goes to a mirror. One connection per request, no `?ns=`. */
export const dockerd: PullerKind = {
  name: 'dockerd',
  executables: ['dockerd', 'docker', 'containerd', 'runc'],
  agent: 'docker/',
  mirrorsOnlyDockerHub: true,
  start: async (world, mirror) => {
    const directory = await world.room.makeDirectory('dockerd')
    const socket = `unix://${join(directory, 'docker.sock')}`
    const file = join(directory, 'daemon.json')
    const configuration = {
      'data-root': join(directory, 'data'),
      'exec-root': join(directory, 'exec'),
      pidfile: join(directory, 'pid'),
      hosts: [socket],
      'registry-mirrors': [`http://${mirror}`],
      'storage-driver': 'vfs',
      iptables: false,
      bridge: 'none',
    }
    await writeFile(file, JSON.stringify(configuration))
    const home = await world.room.makeDirectory('dockerd/home')
    const env = { HOME: home, SSL_CERT_FILE: world.certificates.caFile }
    const daemon = new Child('dockerd', world.room.inside(['dockerd', '--config-file', file]), { env })
    const docker = (...args: readonly string[]): string[] => {
      return world.room.inside(['docker', '--host', socket, ...args])
    }
    await daemon.ready(async () => (await run(docker('info'), { env })).code === 0)
    return {
      pull: async image => {
        const { code, stdout, stderr } = await run(docker('pull', image), { env })
        if (code !== 0)
          throw new Error(`docker pull ${image} failed:\n${stdout}${stderr}\n${daemon.output(20)}`)
      },
      forget: async image => void (await runOk(docker('rmi', '--force', image), { env })),
      run: async image => {
        const name = `greeting-${Date.now()}`
        return await runOk(docker('run', '--rm', '--network', 'none', '--name', name, image), { env })
      },
      [Symbol.asyncDispose]: async () => await daemon.stop(),
    } satisfies Puller
  },
}
