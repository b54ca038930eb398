import { readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { Child } from './child.ts'
import { freePort } from './ports.ts'
import { MIRROR_AGENT, QUAY_LOGIN, type World } from './world.ts'

const MAIN = fileURLToPath(new URL('../../../src/main.ts', import.meta.url))

/** The store of a mirror: its sub-command with its flags, and what stands in the environment. */
export interface MirrorStore {
  readonly flags: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

/** What a mirror has besides the ordinary. */
export interface MirrorOptions {
  readonly store?: MirrorStore
  /** Keys of the upstream file that every entry gets. */
  readonly upstream?: Readonly<Record<string, unknown>>
  /** Further sections of the upstream file. */
  readonly sections?: Readonly<Record<string, unknown>>
}

/** The mirror under test: the command that a user types, in the room of the world. */
export class Mirror implements AsyncDisposable {
  readonly port: number
  readonly #child: Child

  private constructor(port: number, child: Child) {
    this.port = port
    this.#child = child
  }

  /**
   * Starts it on a store directory called `name`, if no other store is given; the same name again finds the
   * same store.
   */
  static async start(
    world: World,
    name: string,
    port?: number,
    options: MirrorOptions = {},
  ): Promise<Mirror> {
    const { room, certificates } = world
    const root = await room.makeDirectory(`mirror-${name}`)
    const common = {
      ca_file: certificates.caFile,
      user_agent: MIRROR_AGENT,
      manifest_invalidation_time: '0s',
      allow_addresses: ['127.0.0.0/8'],
      ...options.upstream,
    }
    const upstreams = [
      { namespace: 'docker.io', host: 'registry-1.docker.io', ...common },
      { namespace: 'quay.io', host: 'quay.io', ...QUAY_LOGIN, ...common },
      { namespace: 'ghcr.io', host: 'ghcr.io', ...common },
    ]
    const file = room.path(`mirror-${name}.yml`)
    await writeFile(file, JSON.stringify({ upstreams, ...options.sections }))
    const listen = port ?? (await freePort())
    const flags = ['--listen', `127.0.0.1:${listen}`, '--admin-listen', 'off', '--upstream-config-file', file]
    const { flags: storeFlags, env } = options.store ?? { flags: ['filesystem', '--root', root], env: {} }
    const argv = [process.execPath, MAIN, ...flags, ...storeFlags]
    const child = new Child('the mirror', room.inside(argv), { env })
    await child.ready(async () => [200, 401].includes((await fetch(`http://127.0.0.1:${listen}/v2/`)).status))
    return new Mirror(listen, child)
  }

  /** `127.0.0.1:<port>`. */
  get address(): string {
    return `127.0.0.1:${this.port}`
  }

  /** Its last log lines. */
  output(lines = 60): string {
    return this.#child.output(lines)
  }

  /** The most memory that it has had resident, in bytes. */
  async peakResidentBytes(): Promise<number> {
    const status = await readFile(`/proc/${this.#child.pid}/status`, 'utf8')
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child.stop()
  }
}
