import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { pull } from './client.ts'
import { NotRun } from './rig.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const STARTS_WITHIN_MS = 30_000

export interface DaemonOptions {
  readonly root: string
  /** Command and flags of the store; a file system at the root by default. */
  readonly store?: readonly string[]
  /** The upstream of docker.io, as `host:port` on loopback over plain http. */
  readonly upstream: string
  /** Path of the upstream file. */
  readonly directory: string
  readonly env?: Record<string, string>
  /** Further lines of the upstream's entry. */
  readonly entry?: readonly string[]
  /** Lines of further sections of the upstream file. */
  readonly sections?: readonly string[]
  readonly flags?: readonly string[]
  /** Address of the listener for clients; a free port of 127.0.0.1 by default. */
  readonly listen?: string
  /** Address of the admin listener; none by default. */
  readonly adminListen?: string
  /**
   * Command that starts the daemon, such as a shell that sets a limit. It must replace itself by the daemon.
   */
  readonly through?: readonly string[]
}

/** The daemon as an operator runs it: a process of its own. */
export class DaemonProcess implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #lines: Record<string, unknown>[] = []
  readonly #waiting = new Set<() => void>()
  #address = ''
  #readyMs = 0
  /** Its standard error. */
  stderr = ''

  private constructor(child: ChildProcess) {
    this.#child = child
    child.stderr?.on('data', (text: Buffer) => {
      if (this.stderr.length < 10_000) this.stderr += text.toString()
    })
    if (child.stdout !== null) createInterface({ input: child.stdout }).on('line', line => this.#read(line))
    child.on('exit', () => this.#wake())
  }

  /** Starts a daemon and waits until it answers. Rejects if it ends before. */
  static async start(options: DaemonOptions): Promise<DaemonProcess> {
    const daemon = await DaemonProcess.spawn(options)
    await daemon.#waitUntilReady()
    return daemon
  }

  /** Starts a daemon and does not wait for it. */
  static async spawn(options: DaemonOptions): Promise<DaemonProcess> {
    const { directory, root, upstream, env, entry = [], sections = [], flags = [], through = [] } = options
    const { adminListen = 'off', listen: clientListen = '127.0.0.1:0' } = options
    const file = join(directory, 'upstreams.yaml')
    const upstreams = ['- namespace: docker.io', `  host: ${upstream}`, '  tls: false', ...entry]
    const lines = ['upstreams:', ...upstreams, ...sections]
    await writeFile(file, `${lines.join('\n')}\n`)
    const { store = ['filesystem', '--root', root] } = options
    const listen = ['--listen', clientListen, '--admin-listen', adminListen, '--upstream-config-file', file]
    const command = [...through, process.execPath, MAIN, ...listen, ...flags, ...store]
    const [program = '', ...rest] = command
    const child = spawn(program, rest, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env['PATH'] ?? '', HOME: directory, ...env },
    })
    child.on('error', () => undefined)
    return new DaemonProcess(child)
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  get address(): string {
    return this.#address
  }

  /** Address of the admin listener, if it has one. */
  get adminAddress(): string {
    return String(this.linesOf('listening')[0]?.['adminListen'])
  }

  /** From its start to its first answer, in milliseconds. */
  get readyMs(): number {
    return this.#readyMs
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null
  }

  get exitCode(): number | null {
    return this.#child.exitCode
  }

  /** Parsed lines of its log. */
  get lines(): readonly Record<string, unknown>[] {
    return this.#lines
  }

  linesOf(message: string): readonly Record<string, unknown>[] {
    return this.#lines.filter(line => line['msg'] === message)
  }

  /** Resolves to true if the condition held before the daemon ended or the time was up. */
  async until(condition: () => boolean, patienceMs = STARTS_WITHIN_MS): Promise<boolean> {
    const deadlineMs = performance.now() + patienceMs
    while (!condition()) {
      if (!this.isRunning || performance.now() > deadlineMs) return condition()
      const { promise, resolve } = Promise.withResolvers<void>()
      const timer = setTimeout(resolve, 50)
      this.#waiting.add(resolve)
      await promise
      clearTimeout(timer)
    }
    return true
  }

  signal(name: NodeJS.Signals): void {
    if (this.isRunning) this.#child.kill(name)
  }

  /** Kills it, and resolves when it is gone. */
  async kill(): Promise<void> {
    if (!this.isRunning) return
    const gone = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await gone
  }

  /** Sends SIGTERM, and resolves to the exit code. */
  async stop(patienceMs = 20_000): Promise<number | null> {
    this.signal('SIGTERM')
    await this.until(() => !this.isRunning, patienceMs)
    if (this.isRunning) await this.kill()
    return this.exitCode
  }

  /** Number of its open descriptors, including connections. */
  get openFiles(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length
  }

  /** Files below a directory that it has open, including deleted ones. */
  openFilesBelow(directory: string): readonly string[] {
    return this.#targets().filter(target => target.startsWith(`${directory}/`))
  }

  /** Number of its connections and listeners. */
  get sockets(): number {
    return this.#targets().filter(target => target.startsWith('socket:')).length
  }

  #targets(): readonly string[] {
    return readdirSync(`/proc/${this.pid}/fd`).map(name => {
      try {
        return readlinkSync(`/proc/${this.pid}/fd/${name}`)
      } catch {
        return ''
      }
    })
  }

  /** Its peak memory, in bytes. */
  get residentMaxBytes(): number {
    const [, kilobytes = '0'] =
      /^VmHWM:\s+([0-9]+) kB$/m.exec(readFileSync(`/proc/${this.pid}/status`, 'latin1')) ?? []
    return Number(kilobytes) * 1024
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
  }

  async #waitUntilReady(): Promise<void> {
    const startedAtMs = performance.now()
    const isListening = await this.until(() => this.linesOf('listening').length > 0)
    if (!isListening) {
      await this.kill()
      throw new Error(`the daemon did not start: ${this.stderr}`)
    }
    this.#address = String(this.linesOf('listening')[0]?.['listen'])
    const { status } = await pull(this.#address, '/v2/')
    if (status !== 200) throw new Error(`the daemon answered ${status} to its first request`)
    this.#readyMs = performance.now() - startedAtMs
  }

  #read(line: string): void {
    try {
      this.#lines.push(JSON.parse(line) as Record<string, unknown>)
    } catch {
      this.stderr += `${line}\n`
    }
    this.#wake()
  }

  #wake(): void {
    for (const wake of this.#waiting) wake()
    this.#waiting.clear()
  }
}

/** Throws a {@link NotRun} unless the machine has these programs. */
export function requirePrograms(...names: readonly string[]): void {
  for (const name of names) {
    if (spawnSync('sh', ['-c', `command -v ${name}`]).status !== 0)
      throw new NotRun(`${name} is not installed`)
  }
}
