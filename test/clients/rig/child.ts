import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

/** How one finished command went; `code` is undefined when a signal ended it. */
export interface Finished {
  readonly code: number | undefined
  readonly stdout: string
  readonly stderr: string
}

/** What a child gets: no variable of the machine (proxies, extra CAs) reaches it unless named here. */
export interface ChildOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly limitMs?: number
}

const PATH = '/usr/sbin:/usr/bin:/sbin:/bin'
const LOG_LINES_MAX = 4_000

/** A daemon that the rig has started: its output is kept, and it is ended by its own process id. */
export class Child implements AsyncDisposable {
  readonly #process: ChildProcess
  readonly #lines: string[] = []
  readonly #exited: Promise<void>
  readonly name: string

  constructor(name: string, argv: readonly string[], options: ChildOptions = {}) {
    this.name = name
    this.#process = start(argv, options)
    this.#exited = new Promise(resolve => this.#process.once('close', () => resolve()))
    this.#process.once('error', error => this.#keep(String(error)))
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      if (stream) createInterface({ input: stream }).on('line', line => this.#keep(line))
    }
  }

  get pid(): number {
    return this.#process.pid ?? -1
  }

  get running(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null
  }

  /** The last lines that the daemon wrote, both streams together. */
  output(lines = 60): string {
    return this.#lines.slice(-lines).join('\n')
  }

  /** Every kept line that the daemon wrote. */
  lines(): readonly string[] {
    return this.#lines
  }

  /**
   * Resolves once `probe` is true; a daemon that dies or takes too long is ended, and its own words are
   * thrown.
   */
  async ready(probe: () => Promise<boolean>, limitMs = 20_000): Promise<void> {
    const end = performance.now() + limitMs
    while (!(await probe().catch(() => false))) {
      const late = performance.now() > end
      if (late || !this.running) {
        await this.stop()
        throw new Error(
          `${this.name} ${late ? 'was not ready in time' : 'ended at its start'}:\n${this.output()}`,
        )
      }
      await new Promise(resolve => setTimeout(resolve, 50))
    }
  }

  /** Ends the daemon: by SIGTERM, and by SIGKILL if it has not gone after ten seconds. */
  async stop(): Promise<void> {
    if (this.running) this.#process.kill('SIGTERM')
    const hard = setTimeout(() => this.#process.kill('SIGKILL'), 10_000)
    await this.#exited
    clearTimeout(hard)
  }

  /** Ends the daemon by SIGKILL, at once. */
  async kill(): Promise<void> {
    this.#process.kill('SIGKILL')
    await this.#exited
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  #keep(line: string): void {
    this.#lines.push(line)
    if (this.#lines.length > LOG_LINES_MAX) this.#lines.shift()
  }
}

/** Runs a command to its end; `limitMs` (two minutes unless told) ends it by SIGKILL. */
export async function run(argv: readonly string[], options: ChildOptions = {}): Promise<Finished> {
  const child = start(argv, options)
  const out: Buffer[] = []
  const err: Buffer[] = []
  child.stdout?.on('data', (chunk: Buffer) => out.push(chunk))
  child.stderr?.on('data', (chunk: Buffer) => err.push(chunk))
  const limit = setTimeout(() => child.kill('SIGKILL'), options.limitMs ?? 120_000)
  const code = await new Promise<number | undefined>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', code => resolve(code ?? undefined))
  }).finally(() => clearTimeout(limit))
  return { code, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() }
}

/** Runs a command that must succeed and returns what it printed. */
export async function runOk(argv: readonly string[], options: ChildOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await run(argv, options)
  if (code !== 0) throw new Error(`${argv.join(' ')}\nended with ${code ?? 'a signal'}:\n${stdout}${stderr}`)
  return stdout
}

// The kernel ends a child whose parent has died (setpriv), so that a killed test run leaves no daemon behind.
function start(argv: readonly string[], options: ChildOptions): ChildProcess {
  return spawn('/usr/bin/setpriv', ['--pdeathsig', 'KILL', '--', ...argv], {
    env: { PATH, LANG: 'C.UTF-8', ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}
