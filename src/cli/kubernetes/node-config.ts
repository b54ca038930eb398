import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { systemClock } from '../../lib/clock.ts'
import type { Log } from '../../observe/log.ts'
import type { MirrorLogin } from '../clients/client.ts'
import { RootedFiles } from '../clients/host-files.ts'
import { loginAt } from '../clients/mirror-credentials.ts'
import { NODE_RUNTIMES } from '../clients/node-runtimes.ts'
import { ask } from '../doctor/ask.ts'
import { type Environment, EXIT, type ExitCode } from '../environment.ts'
import type { Tool } from '../tool.ts'
import { LOGGING_FLAGS, openCommandLog } from './logging.ts'
import { MirrorHealth } from './mirror-health.ts'
import { type NodeOptions, readNodeOptions } from './node-options.ts'
import { type NodeResult, type NodeWish, type Presence, writeNode } from './node-writer.ts'
import { StopSignals } from './stop-signals.ts'

/** `entrepot node-config`: makes the runtimes of a Kubernetes node pull through the mirror. */
export const nodeConfig: Tool = {
  usage: '--mirror URL [--once | --remove] [options]',
  description:
    'Bring the mirror into the configuration of the runtimes of a Kubernetes node, and keep it there while the\nmirror answers. What others have written stays byte for byte.',
  flags: {
    mirror: { type: 'text', value: 'URL', description: 'address of the mirror, as the node reaches it' },
    root: {
      type: 'text',
      value: 'DIR',
      description: "the node's root directory as it is mounted, such as /host",
    },
    registries: {
      type: 'list',
      value: 'REGISTRIES',
      description:
        'registries to pull through the mirror, with commas; by default those of the upstream file',
    },
    all: {
      type: 'boolean',
      description: 'every other registry too (_default); the default if no registry is named',
    },
    'upstream-config-file': {
      type: 'text',
      value: 'FILE',
      description: 'file whose entries name the registries',
    },
    runtime: {
      type: 'list',
      value: 'RUNTIME',
      description: `${NODE_RUNTIMES.join(', ')}; by default those that are found`,
      values: NODE_RUNTIMES,
    },
    'containerd-version': {
      type: 'text',
      value: 'VERSION',
      description: 'such as 2.2.1: 2.2 and newer read certs.d by default',
    },
    ca: { type: 'text', value: 'FILE', description: 'CA certificate of the mirror, at its path on the node' },
    'client-cert': {
      type: 'text',
      value: 'FILE',
      description: 'certificate that runtimes present to the mirror, at its path on the node',
    },
    'client-key': { type: 'text', value: 'FILE', description: 'key of --client-cert' },
    username: { type: 'text', value: 'NAME', description: 'user that runtimes log in to the mirror with' },
    'password-file': {
      type: 'text',
      value: 'FILE',
      description: 'password of --username, or a robot token; read again at each look',
    },
    once: { type: 'boolean', description: 'write once and end, as in an init container' },
    remove: { type: 'boolean', description: 'take out what node-config has written, and end' },
    interval: { type: 'text', value: 'TIME', description: 'time between two looks; 15s by default' },
    'unhealthy-after': {
      type: 'text',
      value: 'TIME',
      description: 'take the mirror out after this time without an answer; 60s by default',
    },
    'healthy-after': {
      type: 'text',
      value: 'TIME',
      description: 'put it back after this time of answers; 10s by default',
    },
    'remove-on-exit': { type: 'boolean', description: 'take everything out when the loop is stopped' },
    'write-import': {
      type: 'boolean',
      description:
        'write the drop-in that makes containerd read certs.d, where its configuration imports one',
    },
    ...LOGGING_FLAGS,
  },
  examples: [
    ['node-config --mirror http://127.0.0.1:5000 --root /host --once', 'an init container'],
    [
      'node-config --mirror http://127.0.0.1:5000 --root /host --registries docker.io,ghcr.io',
      'keep the mirror in place while it answers',
    ],
    ['node-config --root /host --remove', 'take back what was written'],
  ],
  run: async (environment, words) => {
    const options = await readNodeOptions(environment, words)
    using signals = new StopSignals(environment.signals)
    const log = openCommandLog(environment, options.logging)
    const node = new Node(environment, options, log)
    if (options.action !== 'loop') return await node.write(options.action === 'once' ? 'in' : 'gone')
    await keep(node, options, signals.stop)
    return options.removesOnExit ? await node.write('gone') : EXIT.ok
  },
}

/** The configuration of one node. What has been told once is not told again until it changes. */
class Node {
  readonly #files: RootedFiles
  readonly #options: NodeOptions
  readonly #log: Log
  #told: ReadonlySet<string> = new Set()
  #isUp = true
  readonly #cwd: string
  #login: MirrorLogin | undefined

  constructor(environment: Environment, options: NodeOptions, log: Log) {
    this.#files = new RootedFiles(options.root, environment.cwd)
    this.#options = options
    this.#cwd = environment.cwd
    this.#log = log
  }

  /** Writes the mirror, or takes it out. */
  async write(presence: Presence): Promise<ExitCode> {
    const wish = presence === 'in' ? await this.#wish() : this.#options.wish
    if (wish === undefined) return EXIT.failure
    const result = await writeNode(this.#files, wish, presence, systemClock.wallMs())
    this.#tell(result)
    const isRefused = result.outcomes.some(outcome => outcome.result === 'refused')
    return isRefused || result.problems.length > 0 ? EXIT.failure : EXIT.ok
  }

  /** True if the mirror answers, with anything that is no failure of its own. */
  async isAnswering(signal: AbortSignal): Promise<boolean> {
    const { mirror, caFile, certificate } = this.#options.wish
    try {
      const [ca, cert, key] = await Promise.all(
        [caFile, certificate?.certFile, certificate?.keyFile].map(async path =>
          path === undefined ? undefined : await this.#files.read(path),
        ),
      )
      const shown = cert === undefined || key === undefined ? undefined : { cert, key }
      const { status } = await ask(`${mirror.url}/v2/`, { ca, certificate: shown, timeoutMs: ANSWER_MS })
      return status < 500
    } catch (error) {
      if (!signal.aborted) this.#log.debug({ err: error }, 'the mirror does not answer')
      return false
    }
  }

  /**
   * The wish with the login as it is now. If its password cannot be read, the last one counts; `undefined` if
   * there was none.
   */
  async #wish(): Promise<NodeWish | undefined> {
    const { wish, login: place } = this.#options
    if (place === undefined) return wish
    const login = await loginAt(place, async path => await readFile(resolve(this.#cwd, path), 'utf8'))
    if (login === undefined) this.#log.warn({ file: place.passwordFile }, 'the file has no password')
    this.#login = login ?? this.#login
    return this.#login === undefined ? undefined : { ...wish, login: this.#login }
  }

  /** Tells when the mirror is taken out or put back. */
  announce(isUp: boolean): void {
    if (isUp === this.#isUp) return
    this.#isUp = isUp
    const { url } = this.#options.wish.mirror
    if (isUp) this.#log.info({ mirror: url }, 'the mirror answers again and is put back')
    else this.#log.warn({ mirror: url }, 'the mirror does not answer and is taken out: pulls go directly')
  }

  #tell({ outcomes, notes, problems }: NodeResult): void {
    const told = new Set<string>()
    const once = (text: string, tell: () => void): void => {
      if (!this.#told.has(text)) tell()
      told.add(text)
    }
    for (const { path, result, reason } of outcomes)
      if (result === 'refused')
        once(`${path}: ${reason}`, () => this.#log.warn({ path, reason }, 'left as it is'))
      else this.#log.info({ path }, result)
    for (const note of notes) once(note, () => this.#log.info({}, note))
    for (const problem of problems) once(problem, () => this.#log.error({}, problem))
    this.#told = told
  }
}

const ANSWER_MS = 5000

/** Keeps the mirror in the configuration while it answers, until the signal aborts. */
async function keep(node: Node, { health, intervalMs }: NodeOptions, signal: AbortSignal): Promise<void> {
  const mirror = new MirrorHealth(health, systemClock.monotonicMs())
  while (!signal.aborted) {
    const isUp = mirror.note(await node.isAnswering(signal), systemClock.monotonicMs())
    node.announce(isUp)
    await node.write(isUp ? 'in' : 'out')
    await systemClock.delay(intervalMs, signal).catch(() => undefined)
  }
}
