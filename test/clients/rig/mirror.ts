import { readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { Child } from './child.ts'
import { accepts, freePort } from './ports.ts'
import { MIRROR_AGENT, MIRROR_NAME, QUAY_LOGIN, type World } from './world.ts'

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
  /** Adds a listener with TLS, whose certificate is for {@link MIRROR_NAME}. */
  readonly tls?: {
    /** CA of client certificates, which the listener then asks for. */
    readonly clientCaFile?: string
  }
}

/** The mirror under test: the command that a user types, in the room of the world. */
export class Mirror implements AsyncDisposable {
  readonly port: number
  readonly #tlsPort: number | undefined
  readonly #child: Child

  private constructor(port: number, tlsPort: number | undefined, child: Child) {
    this.port = port
    this.#tlsPort = tlsPort
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
    const { room, certificates, addresses } = world
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
    const tlsPort = options.tls === undefined ? undefined : await freePort()
    const tlsHost = addresses.get(MIRROR_NAME) ?? ''
    if (tlsPort !== undefined) {
      flags.push('--listen-tls', `${tlsHost}:${tlsPort}`)
      flags.push('--tls-cert', certificates.certificateFile, '--tls-key', certificates.keyFile)
    }
    const clientCa = options.tls?.clientCaFile
    if (clientCa !== undefined) flags.push('--tls-client-ca', clientCa)
    const { flags: storeFlags, env } = options.store ?? { flags: ['filesystem', '--root', root], env: {} }
    const argv = [process.execPath, MAIN, ...flags, ...storeFlags]
    const child = new Child('the mirror', room.inside(argv), { env })
    await child.ready(async () => {
      const isSecureUp = tlsPort === undefined || (await accepts({ host: tlsHost, port: tlsPort }))
      return isSecureUp && [200, 401].includes((await fetch(`http://127.0.0.1:${listen}/v2/`)).status)
    })
    return new Mirror(listen, tlsPort, child)
  }

  /** `127.0.0.1:<port>`. */
  get address(): string {
    return `127.0.0.1:${this.port}`
  }

  /** `<name>:<port>` of the listener with TLS. */
  get secureAddress(): string {
    if (this.#tlsPort === undefined) throw new Error('this mirror has no listener with TLS')
    return `${MIRROR_NAME}:${this.#tlsPort}`
  }

  /** Its last log lines. */
  output(lines = 60): string {
    return this.#child.output(lines)
  }

  /** All log lines that are kept. */
  lines(): readonly string[] {
    return this.#child.lines()
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
