import { mkdir, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { Child, run, runOk } from '../child.ts'
import type { World } from '../world.ts'
import { connectCri } from './cri.ts'
import { labelOf, type Puller, type PullerKind, type PullLogin } from './puller.ts'

/** Where `go install` puts programs. */
export const GO_BIN = join(homedir(), 'go', 'bin')

/** `ctr`: containerd's own client, with hosts.toml; it sends `?ns=` and has no limit of parallel blobs. */
export const ctr: PullerKind = {
  name: 'ctr',
  executables: ['containerd', 'ctr', 'runc'],
  agent: 'containerd/',
  start: async (world, mirror) => {
    const daemon = await Containerd.start(world, { mirror, name: 'ctr', release: DEBIAN_CONTAINERD })
    const ctr = (...args: readonly string[]): string[] => {
      return world.room.inside(['ctr', '--address', daemon.socket, '--namespace', 'test', ...args])
    }
    let runs = 0
    const pull = async (image: string, ...platforms: readonly string[]): Promise<void> => {
      const flags = ['--snapshotter', 'native', '--hosts-dir', daemon.hostsDirectory, ...platforms]
      await daemon.attempt(ctr('images', 'pull', ...flags, image))
    }
    return {
      pull: async (image, login) =>
        await pull(image, '--platform', 'linux/amd64', ...(login === undefined ? [] : userFlag(login))),
      pullEveryPlatform: async image => await pull(image, '--all-platforms'),
      // --sync: containerd collects the garbage, that is the blobs, before it answers.
      forget: async image => {
        await runOk(ctr('images', 'rm', '--sync', image))
        const left = await runOk(ctr('content', 'ls', '--quiet'))
        if (left.trim() !== '') throw new Error(`containerd still has content:\n${left}`)
      },
      run: async image => {
        runs += 1
        const name = `greeting-${runs}`
        const args = ['run', '--rm', '--snapshotter', 'native', '--runc-binary', 'runc', image, name]
        return await daemon.attempt(ctr(...args))
      },
      [Symbol.asyncDispose]: async () => await daemon.stop(),
    } satisfies Puller
  },
}

function userFlag({ username, password }: PullLogin): readonly string[] {
  return ['--user', `${username}:${password}`]
}

/** The CRI plugin of containerd, as a kubelet calls it: gRPC over a unix socket. */
export const cri: PullerKind = {
  name: 'CRI',
  executables: ['containerd', 'runc'],
  agent: 'containerd/',
  start: async (world, mirror) => await startCri(world, { mirror, name: 'cri', release: DEBIAN_CONTAINERD }),
}

/** The same of containerd 2.4, which `go install` has put into the user's own folder. */
export const containerd24: PullerKind = {
  name: 'containerd-2.4',
  executables: [join(GO_BIN, 'containerd'), join(GO_BIN, 'ctr')],
  agent: 'containerd/',
  start: async (world, mirror) =>
    await startCri(world, { mirror, name: 'containerd24', release: NEWEST_CONTAINERD }),
}

async function startCri(world: World, options: ContainerdOptions): Promise<Puller> {
  const daemon = await Containerd.start(world, options)
  const images = await connectCri(daemon.socket)
  const { ctr } = options.release
  const list = [ctr, '--address', daemon.socket, '--namespace', 'k8s.io', 'content', 'ls', '--quiet']
  return {
    pull: async (image, login) => {
      await images.pullImage(image, login).catch((error: unknown) => {
        throw new Error(`PullImage of ${image} failed:\n${daemon.output()}`, { cause: error })
      })
    },
    forget: async image => {
      await images.removeImage(image)
      const left = await runOk(world.room.inside(list))
      if (left.trim() !== '') throw new Error(`containerd still has content:\n${left}`)
    },
    [Symbol.asyncDispose]: async () => {
      images.close()
      await daemon.stop()
    },
  }
}

/** The executables of one release, and the version of the configuration that it reads. */
interface Release {
  readonly containerd: string
  readonly ctr: string
  readonly configure: (directory: string, socket: string, hosts: string) => string
}

interface ContainerdOptions {
  readonly mirror: string | undefined
  readonly name: string
  readonly release: Release
}

/** A containerd of the rig's own. */
export class Containerd {
  readonly socket: string
  readonly hostsDirectory: string
  readonly #child: Child

  private constructor(socket: string, hostsDirectory: string, child: Child) {
    this.socket = socket
    this.hostsDirectory = hostsDirectory
    this.#child = child
  }

  static async start(world: World, { mirror, name, release }: ContainerdOptions): Promise<Containerd> {
    const directory = await world.room.makeDirectory(labelOf(`containerd-${name}`, mirror))
    const hosts = await writeHosts(directory, mirror, world.certificates.caFile)
    const socket = join(directory, 'containerd.sock')
    const file = join(directory, 'config.toml')
    await writeFile(file, release.configure(directory, socket, hosts))
    const child = new Child(`containerd (${name})`, world.room.inside([release.containerd, '--config', file]))
    const version = world.room.inside([release.ctr, '--address', socket, 'version'])
    await child.ready(async () => (await run(version)).code === 0)
    return new Containerd(socket, hosts, child)
  }

  /** Runs a command of its client; a failure also tells what the daemon said. */
  async attempt(argv: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await run(argv)
    if (code !== 0) throw new Error(`${argv.join(' ')}\nfailed:\n${stdout}${stderr}\n${this.output()}`)
    return stdout
  }

  output(): string {
    return this.#child.output(20)
  }

  async stop(): Promise<void> {
    await this.#child.stop()
  }
}

async function writeHosts(directory: string, mirror: string | undefined, caFile: string): Promise<string> {
  const hosts = join(directory, 'certs.d')
  const servers = { 'docker.io': 'registry-1.docker.io', 'quay.io': 'quay.io', 'ghcr.io': 'ghcr.io' }
  for (const [namespace, server] of Object.entries(servers)) {
    await mkdir(join(hosts, namespace), { recursive: true })
    const host = mirror === undefined ? `https://${server}` : `http://${mirror}`
    const lines = [
      `server = "https://${server}"`,
      `ca = "${caFile}"`,
      `[host."${host}"]`,
      '  capabilities = ["pull", "resolve"]',
      ...(mirror === undefined ? [`  ca = "${caFile}"`] : []),
    ]
    await writeFile(join(hosts, namespace, 'hosts.toml'), `${lines.join('\n')}\n`)
  }
  // What is asked of a mirror by its own name; see MIRROR_NAME.
  await mkdir(join(hosts, '_default'), { recursive: true })
  await writeFile(join(hosts, '_default', 'hosts.toml'), `ca = "${caFile}"\n[host]\n`)
  return hosts
}

function configureVersion2(directory: string, socket: string, hosts: string): string {
  return `version = 2
root = "${join(directory, 'root')}"
state = "${join(directory, 'state')}"
[grpc]
  address = "${socket}"
[ttrpc]
  address = "${socket}.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${join(directory, 'cni')}"
    conf_dir = "${join(directory, 'cni')}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "${hosts}"
[plugins."io.containerd.internal.v1.opt"]
  path = "${join(directory, 'opt')}"
`
}

function configureVersion3(directory: string, socket: string, hosts: string): string {
  return `version = 3
root = "${join(directory, 'root')}"
state = "${join(directory, 'state')}"
[grpc]
  address = "${socket}"
[ttrpc]
  address = "${socket}.ttrpc"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "native"
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = "${hosts}"
[plugins.'io.containerd.transfer.v1.local']
  [[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
    platform = "linux/amd64"
    snapshotter = "native"
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["${join(directory, 'cni')}"]
  conf_dir = "${join(directory, 'cni')}"
[plugins.'io.containerd.internal.v1.opt']
  path = "${join(directory, 'opt')}"
`
}

/** Debian's containerd. */
export const DEBIAN_CONTAINERD: Release = {
  containerd: 'containerd',
  ctr: 'ctr',
  configure: configureVersion2,
}
/** The containerd that `go install` has built. */
export const NEWEST_CONTAINERD: Release = {
  containerd: join(GO_BIN, 'containerd'),
  ctr: join(GO_BIN, 'ctr'),
  configure: configureVersion3,
}
