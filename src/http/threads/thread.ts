import type { IncomingMessage, ServerResponse } from 'node:http'
import { setImmediate } from 'node:timers/promises'
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { RuledAccess } from '../../access/ruled-access.ts'
import { Epoch } from '../../content/epoch.ts'
import { systemClock } from '../../lib/clock.ts'
import { growNurseryWhenBusy } from '../../lib/memory/nursery.ts'
import { SharedCount } from '../../lib/shared-count.ts'
import { Events } from '../../observe/events.ts'
import { openLog } from '../../observe/log.ts'
import { createMetrics } from '../../observe/metrics.ts'
import { batchOutput } from '../../observe/output.ts'
import { startTracing } from '../../observe/tracing/start.ts'
import type { Tracing } from '../../observe/tracing/tracing.ts'
import type { NameRules } from '../../oci/place.ts'
import { ClientLimits } from '../client-limits.ts'
import { ConnectionCounts } from '../connection-counts.ts'
import { Dispatch } from '../dispatch.ts'
import { type FileSender, openFileSender } from '../file-sender.ts'
import { type Handler, HttpServer, SERVER_LIMITS } from '../server.ts'
import type { ListenerTls } from '../tls/listener-tls.ts'
import { tracedHandler } from '../traced-handler.ts'
import { Accounts } from './accounts.ts'
import { type Calls, Channel } from './channel.ts'
import { Forwarding, isContentRequest } from './forward.ts'
import type { DirectoryText, MirrorCalls, SharedAddress, ThreadCalls, ThreadSettings } from './protocol.ts'
import { RemoteMirror } from './remote-mirror.ts'

/** Time between two reports to the first thread, in milliseconds. */
const ACCOUNT_EVERY_MS = 500
/** Most log characters that may be on their way to the first thread. */
const WAITING_LOG_MAX = 8 * 1024 * 1024

/**
 * A further thread. It repeats remembered answers and reads files by itself. For everything else it asks the
 * first thread, which makes all decisions.
 */
class ServingThread {
  readonly #metrics = createMetrics({ isFurther: true })
  readonly #events: Events
  readonly #accounts: Accounts
  readonly #channel: Channel<MirrorCalls>
  readonly #servers: HttpServer[] = []
  readonly #handler: Promise<Handler>
  readonly #tracing: Promise<Tracing | undefined>
  readonly #connections: ConnectionCounts
  #tls: ListenerTls | undefined
  readonly #dispatch: Dispatch
  readonly #access: RuledAccess
  #names: NameRules
  #isDraining = false
  readonly #waitingLog: SharedCount
  #droppedLines = 0

  /** Starts the thread. It serves once the first thread calls `listen`. */
  static async start(port: MessagePort, settings: ThreadSettings): Promise<void> {
    if (settings.growsNursery) growNurseryWhenBusy()
    const sender = settings.usesSendfile ? await openFileSender() : undefined
    const thread = new ServingThread(port, settings, sender)
    setInterval(() => {
      thread.#account()
      thread.#events.flushRepeated()
    }, ACCOUNT_EVERY_MS).unref()
  }

  constructor(port: MessagePort, settings: ThreadSettings, sender: FileSender | undefined) {
    this.#waitingLog = new SharedCount(settings.waitingLog)
    const output = batchOutput(lines => this.#log(lines))
    this.#events = new Events(openLog(settings.logLevel, output), this.#metrics, systemClock, [
      {
        take: ({ kind, details }) => {
          if (kind === 'audited') this.#channel.tell('audited', details)
        },
      },
    ])
    this.#accounts = new Accounts(this.#events.recentClients)
    this.#names = this.#rulesOf(settings.directory)
    this.#channel = new Channel<MirrorCalls>(port, this.#calls())
    this.#access = new RuledAccess(
      {
        identifier: {
          identify: async (authorization, client) =>
            await this.#channel.call('identify', authorization, client),
        },
        changes: new SharedCount(settings.identityChanges),
        clock: systemClock,
        events: this.#events,
        // The first thread answers `GET /v2/`.
        hasRobots: () => false,
      },
      settings.directory.policy,
    )
    const dispatch = this.#dispatchOf(settings, sender)
    const forwarding = new Forwarding(settings.socket)
    this.#dispatch = dispatch
    this.#tls = settings.tls
    this.#connections = new ConnectionCounts(settings.connections)
    const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> =>
      await dispatch.handle(request, response)
    this.#tracing =
      settings.tracing === undefined
        ? Promise.resolve(undefined)
        : startTracing(this.#events, settings.tracing)
    this.#handler = this.#tracing.then(tracing => {
      const traced = tracedHandler(tracing, answer)
      return async (request, response) =>
        isContentRequest(request)
          ? await traced(request, response)
          : await forwarding.handle(request, response)
    })
  }

  #dispatchOf(
    { instance, firstHeaderMs, epoch, running, clientLimits }: ThreadSettings,
    sender: FileSender | undefined,
  ): Dispatch {
    return new Dispatch({
      answering: new RemoteMirror(this.#channel, digest => this.#accounts.shown(digest)),
      events: this.#events,
      instance,
      names: () => this.#names,
      ledger: this.#accounts,
      recentPulls: this.#accounts,
      running: new SharedCount(running),
      access: this.#access,
      sender,
      clientLimits:
        clientLimits === undefined ? undefined : new ClientLimits(clientLimits.options, clientLimits.memory),
      remembering: { epoch: new Epoch(epoch), clock: systemClock },
      readiness: {
        isDraining: () => this.#isDraining,
        // The first thread answers `/readyz`.
        probeStore: async () => await Promise.resolve(),
      },
      ...(firstHeaderMs === undefined ? {} : { firstHeaderMs }),
    })
  }

  #calls(): ThreadCalls & Calls {
    return {
      listen: async address => await this.#listen(address),
      secure: tls => {
        this.#tls = tls
        for (const server of this.#servers) server.secure(tls)
      },
      direct: directory => {
        this.#names = this.#rulesOf(directory)
        this.#access.replace(directory.policy)
      },
      drain: async () => {
        this.#isDraining = true
        await Promise.all(this.#servers.map(async server => await server.close()))
        await this.#sayLast()
      },
      cut: async () => {
        this.#isDraining = true
        for (const server of this.#servers) server.destroy()
        await this.#sayLast()
      },
      metrics: async () => await this.#metrics.snapshot(),
      report: () => this.#account(),
    }
  }

  async #listen({ host, port, isTls }: SharedAddress): Promise<void> {
    const tls = isTls ? this.#tls : undefined
    const server = new HttpServer(await this.#handler, SERVER_LIMITS, this.#connections, tls)
    this.#servers.push(server)
    await server.listen({ kind: 'tcp', host, port }, { isShared: true })
  }

  /** Reports the last requests, whose clients are gone. */
  async #sayLast(): Promise<void> {
    await this.#dispatch.settled()
    await setImmediate()
    this.#account()
    await (await this.#tracing)?.[Symbol.asyncDispose]()
  }

  /**
   * Drops lines while the first thread cannot write, for example because nothing reads its output: waiting
   * lines must not fill the memory.
   */
  #log(lines: string): void {
    if (this.#waitingLog.value > WAITING_LOG_MAX) {
      this.#droppedLines += lines.split('\n').length - 1
      return
    }
    this.#waitingLog.add(lines.length)
    this.#channel.tell('log', lines)
    const dropped = this.#droppedLines
    this.#droppedLines = 0
    if (dropped > 0)
      this.#events.warned('log lines were dropped because standard output was blocked', { dropped })
  }

  #rulesOf({ defaultNamespace, configured }: DirectoryText): NameRules {
    this.#events.nameNamespaces(configured)
    return { defaultNamespace, terms: new Set(configured) }
  }

  #account(): void {
    const account = this.#accounts.take()
    if (account !== undefined) this.#channel.tell('account', account)
  }
}

if (parentPort === null) throw new Error('this file must run as a thread')
await ServingThread.start(parentPort, workerData as ThreadSettings)
