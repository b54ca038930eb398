import type { Config, ListenAddress } from '../config/config.ts'
import { formatListen } from '../config/listen.ts'
import type { LoadedConfig } from '../config/load.ts'
import { ConfigError } from '../config/problem.ts'
import { StoreUnusableError } from '../oci/error.ts'
import { settingLines } from './check.ts'
import { type Environment, EXIT, type ExitCode, type RunningDaemon } from './environment.ts'
import { removeStaleSocket } from './stale-socket.ts'

const STOPPING = ['SIGTERM', 'SIGINT'] as const

/**
 * Runs the daemon until a signal stops it: the first SIGTERM or SIGINT drains, the second disconnects
 * clients, SIGHUP reloads. Stop signals during the start take effect after it; SIGHUP is ignored then.
 */
export async function serve(environment: Environment, loaded: LoadedConfig): Promise<ExitCode> {
  for (const notice of loaded.notices) environment.stderr.write(`entrepot: note: ${notice}\n`)
  for (const risk of loaded.risks) environment.stderr.write(`entrepot: WARNING: ${risk}\n`)
  const handler = new SignalHandler(environment)
  try {
    await removeStaleSockets(loaded.config)
    const daemon = await environment.startDaemon(loaded.config, settingLines(loaded))
    await handler.run(daemon)
    return EXIT.ok
  } catch (error) {
    if (error instanceof ConfigError || isDefect(error)) throw error
    environment.stderr.write(`entrepot: ${describe(error as Error, loaded.config)}\n`)
    return error instanceof StoreUnusableError ? EXIT.configuration : EXIT.failure
  } finally {
    handler.remove()
  }
}

async function removeStaleSockets({ listen, adminListen }: Config): Promise<void> {
  for (const address of [listen, adminListen]) {
    if (address?.kind === 'unix') await removeStaleSocket(address.path)
  }
}

/** Forwards signals to the daemon. */
class SignalHandler {
  readonly #environment: Environment
  #daemon: RunningDaemon | undefined
  #stops = 0
  readonly #stopWanted = Promise.withResolvers<void>()

  constructor(environment: Environment) {
    this.#environment = environment
    for (const signal of STOPPING) environment.signals.on(signal, this.#stop)
    environment.signals.on('SIGHUP', this.#reload)
  }

  /** Resolves when a signal has stopped the daemon. */
  async run(daemon: RunningDaemon): Promise<void> {
    this.#daemon = daemon
    await this.#stopWanted.promise
    const stopped = daemon.stop()
    if (this.#stops > 1) daemon.stopNow()
    await stopped
  }

  /** Restores the default actions of the signals. */
  remove(): void {
    for (const signal of STOPPING) this.#environment.signals.off(signal, this.#stop)
    this.#environment.signals.off('SIGHUP', this.#reload)
  }

  readonly #stop = (): void => {
    this.#stops += 1
    this.#stopWanted.resolve()
    if (this.#stops === 2) this.#daemon?.stopNow()
  }

  readonly #reload = (): void => {
    this.#daemon?.reload().catch((error: unknown) => {
      this.#environment.stderr.write(`entrepot: reload failed: ${String(error)}\n`)
    })
  }
}

const LISTEN_FAILURES: ReadonlyMap<string, string> = new Map([
  ['EADDRINUSE', 'the address is in use'],
  ['EADDRNOTAVAIL', 'this machine has no such address'],
  ['EACCES', 'permission denied'],
  ['ENOTFOUND', 'the host name cannot be resolved'],
])

/** One line on why the daemon did not start. */
function describe(error: ListenError, config: Config): string {
  const failure = LISTEN_FAILURES.get(error.code ?? '')
  if (failure === undefined || (error.syscall !== 'listen' && error.syscall !== 'getaddrinfo')) {
    return causes(error).join(': ')
  }
  const isAdmin = config.adminListen !== undefined && isAddressOf(error, config.adminListen)
  const address = isAdmin ? config.adminListen : config.listen
  const flag = isAdmin ? '--admin-listen' : '--listen'
  return `cannot listen on ${formatListen(address)}: ${failure} (choose another with ${flag})`
}

/** Error of Node's `listen` or `getaddrinfo`. */
interface ListenError extends NodeJS.ErrnoException {
  readonly address?: string
  readonly port?: number
  readonly hostname?: string
}

function isAddressOf(error: ListenError, address: ListenAddress): boolean {
  if (address.kind === 'unix') return error.address === address.path
  if (error.port === undefined) return error.hostname === address.host
  return error.port === address.port
}

function causes(error: unknown): string[] {
  return error instanceof Error ? [error.message, ...causes(error.cause)] : []
}

/** True for errors of the language: they are defects, which need a stack trace. */
function isDefect(error: unknown): boolean {
  return error instanceof TypeError || error instanceof ReferenceError || !(error instanceof Error)
}
