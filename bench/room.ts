import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { LoopWatch } from './loop.ts'

const READY_WITHIN_MS = 30_000
const GONE_WITHIN_MS = 10_000
const LOG_TAIL = 2000

export interface ChildOptions {
  readonly env?: Readonly<Record<string, string>>
}

/**
 * A program that the benchmark started. Its output goes to a file, so that reading it costs no time during a
 * measurement.
 */
export class Child implements AsyncDisposable {
  readonly #process: ChildProcess
  readonly #gone: Promise<void>
  readonly name: string
  /** File that receives both standard output and standard error. */
  readonly log: string

  constructor(process: ChildProcess, name: string, log: string) {
    this.#process = process
    this.name = name
    this.log = log
    this.#gone = new Promise(resolve => process.once('close', () => resolve()).once('error', () => resolve()))
  }

  get pid(): number {
    return this.#process.pid ?? -1
  }

  get isRunning(): boolean {
    return (
      this.#process.pid !== undefined && this.#process.exitCode === null && this.#process.signalCode === null
    )
  }

  /**
   * Calls the probe every few milliseconds and resolves once it succeeds. Throws, with the end of the child's
   * log, if the child ends or takes too long.
   */
  async ready(probe: () => Promise<boolean>, everyMs = 5): Promise<void> {
    const deadlineMs = performance.now() + READY_WITHIN_MS
    while (!(await probe().catch(() => false))) {
      if (!this.isRunning || performance.now() > deadlineMs) {
        throw new Error(`${this.name} does not run:\n${readFileSync(this.log, 'utf8').slice(-LOG_TAIL)}`)
      }
      await sleep(everyMs)
    }
  }

  /** Ends the program by SIGTERM, and by SIGKILL if it does not go. */
  async stop(): Promise<void> {
    if (!this.isRunning) return
    this.#process.kill('SIGTERM')
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), GONE_WITHIN_MS)
    await this.#gone
    clearTimeout(timer)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }
}

/** A running server and its `host:port`. */
export interface Started {
  readonly child: Child
  readonly address: string
  /** Its event loops, if it is Entrepot. */
  readonly loop?: LoopWatch
}

/** A temporary directory and the programs that run in it. Both are removed with the room. */
export class Room implements AsyncDisposable {
  readonly #children = new Set<Child>()
  readonly directory: string
  #started = 0
  #isEnded = false

  private constructor(directory: string) {
    this.directory = directory
  }

  static async open(): Promise<Room> {
    return new Room(await mkdtemp(join(tmpdir(), 'entrepot-bench-')))
  }

  path(...names: readonly string[]): string {
    return join(this.directory, ...names)
  }

  /** Starts a program that runs until it is stopped. It ends with the benchmark, however that ends. */
  start(name: string, argv: readonly string[], options: ChildOptions = {}): Child {
    this.requireOpen()
    this.#started += 1
    const log = this.path(`${this.#started}.log`)
    const descriptor = openSync(log, 'a')
    try {
      return this.#own(name, log, this.#spawn(argv, options, ['ignore', descriptor, descriptor]))
    } finally {
      closeSync(descriptor)
    }
  }

  /** Runs a program to its end and resolves to its output; rejects unless its exit code is 0. */
  async run(argv: readonly string[], options: ChildOptions = {}): Promise<string> {
    this.requireOpen()
    const started = this.#spawn(argv, options, ['ignore', 'pipe', 'pipe'])
    const child = this.#own(argv[0] ?? '', '', started)
    let [out, err] = ['', '']
    started.stdout?.on('data', (text: Buffer) => (out += text.toString()))
    started.stderr?.on('data', (text: Buffer) => (err += text.toString()))
    const code = await new Promise<number | null>((resolve, reject) => {
      started.once('error', reject).once('close', resolve)
    }).finally(() => this.#children.delete(child))
    if (code !== 0) throw new Error(`${argv.join(' ')} ended with ${code}:\n${out}${err}`)
    return out
  }

  /** Throws if the room is closing. */
  requireOpen(): void {
    if (this.#isEnded) throw new Error('the bench is being ended')
  }

  /** Stops all programs and starts no more, so that running work fails at once. */
  async end(): Promise<void> {
    this.#isEnded = true
    await Promise.all([...this.#children].map(async child => await child.stop()))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end()
    await rm(this.directory, { recursive: true, force: true, maxRetries: 5 })
  }

  #own(name: string, log: string, process: ChildProcess): Child {
    const child = new Child(process, name, log)
    this.#children.add(child)
    return child
  }

  #spawn(
    argv: readonly string[],
    { env = {} }: ChildOptions,
    stdio: ('ignore' | 'pipe' | number)[],
  ): ChildProcess {
    return spawn('setpriv', ['--pdeathsig', 'TERM', '--', ...argv], {
      stdio,
      env: { PATH: process.env['PATH'] ?? '', HOME: this.directory, LANG: 'C.UTF-8', ...env },
    })
  }
}
