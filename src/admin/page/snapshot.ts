import type { RegistryTraffic, Traffic } from '../../observe/traffic.ts'
import { type KeptTraffic, TrafficHistory, type TrafficSpan } from '../../observe/traffic-history.ts'
import type { AdminAnswers, DaemonReport } from '../contract.ts'
import type { AdminRoutesParts } from '../parts.ts'
import { listFlows } from '../routes.ts'
import { reportStatus } from '../status.ts'

type TrafficSum = Omit<TrafficSpan, 'startMs'>

/** What the page Now shows. */
export interface Snapshot {
  readonly atMs: number
  readonly status: DaemonReport
  readonly registries: ReadonlyMap<string, RegistryTraffic>
  readonly today: TrafficSum
  readonly week: TrafficSum
  readonly minutes: readonly TrafficSpan[]
  /** When counting began, which may be before the start. */
  readonly sinceMs: number
  readonly flows: AdminAnswers['GET flows']['flows']
}

export interface SnapshotsParts extends AdminRoutesParts {
  /** Keeps the figures over a restart; `undefined` if this store does not. */
  readonly trafficRecord:
    | {
        read(): Promise<KeptTraffic | undefined>
        write(traffic: KeptTraffic): Promise<void>
      }
    | undefined
  /** Is told why the traffic of a minute could not be read. */
  readonly failed: (error: unknown) => void
}

/** What costs more than a look at memory is read anew only after this time, in milliseconds. */
const STATUS_MS = 5000
const MINUTE_MS = 60_000

/** Takes snapshots for all pages together, so that many open pages cost what one does. */
export class Snapshots implements AsyncDisposable {
  readonly #parts: SnapshotsParts
  readonly #history: TrafficHistory
  readonly #timer: NodeJS.Timeout
  /** Requests and bytes of this process that the kept figures include. */
  #keptSums = '0 0 0'
  #kept: { readonly untilMs: number; readonly slow: Promise<Omit<Snapshot, 'flows'>> } | undefined

  private constructor(parts: SnapshotsParts, kept: KeptTraffic | undefined) {
    this.#parts = parts
    this.#history = new TrafficHistory(parts.clock.wallMs(), kept)
    this.#timer = setInterval(() => void this.#countAndKeep(), MINUTE_MS)
    this.#timer.unref()
  }

  static async open(parts: SnapshotsParts): Promise<Snapshots> {
    return new Snapshots(parts, await parts.trafficRecord?.read())
  }

  async take(): Promise<Snapshot> {
    const nowMs = performance.now()
    if (this.#kept === undefined || nowMs >= this.#kept.untilMs) {
      const slow = this.#read()
      this.#kept = { untilMs: nowMs + STATUS_MS, slow }
      slow.catch(() => {
        this.#kept = undefined
      })
    }
    const [slow, { flows }] = await Promise.all([this.#kept.slow, listFlows(this.#parts)])
    return { ...slow, flows }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer)
    await this.#countAndKeep()
  }

  async #read(): Promise<Omit<Snapshot, 'flows'>> {
    const traffic = await this.#count()
    const status = await reportStatus({ ...this.#parts, traffic: async () => await Promise.resolve(traffic) })
    const atMs = this.#parts.clock.wallMs()
    return {
      atMs,
      status,
      registries: traffic.registries,
      today: this.#history.days(1, atMs),
      week: this.#history.days(7, atMs),
      minutes: this.#history.minutes(atMs),
      sinceMs: this.#history.sinceMs,
    }
  }

  /** Idle minutes write nothing. */
  async #countAndKeep(): Promise<void> {
    try {
      const { requests, sentBytes, receivedBytes } = await this.#count()
      const sums = [requests, sentBytes, receivedBytes].join(' ')
      if (sums === this.#keptSums) return
      await this.#parts.trafficRecord?.write(this.#history.kept)
      this.#keptSums = sums
    } catch (error) {
      this.#parts.failed(error)
    }
  }

  async #count(): Promise<Traffic> {
    const traffic = await this.#parts.traffic()
    this.#history.note(traffic, this.#parts.clock.wallMs())
    return traffic
  }
}
