import type { RegistryTraffic, Traffic } from '../../observe/traffic.ts'
import { TrafficHistory, type TrafficSpan } from '../../observe/traffic-history.ts'
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
  readonly flows: AdminAnswers['GET flows']['flows']
}

/** What costs more than a look at memory is read anew only after this time, in milliseconds. */
const STATUS_MS = 5000
const MINUTE_MS = 60_000

/** Takes snapshots for all pages together, so that many open pages cost what one does. */
export class Snapshots implements Disposable {
  readonly #parts: AdminRoutesParts
  readonly #history = new TrafficHistory()
  readonly #timer: NodeJS.Timeout
  #kept: { readonly untilMs: number; readonly slow: Promise<Omit<Snapshot, 'flows'>> } | undefined

  /** @param failed is told why the traffic of a minute could not be read. */
  constructor(parts: AdminRoutesParts, failed: (error: unknown) => void) {
    this.#parts = parts
    this.#timer = setInterval(() => void this.#count().catch(failed), MINUTE_MS)
    this.#timer.unref()
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

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }

  async #read(): Promise<Omit<Snapshot, 'flows'>> {
    const traffic = await this.#count()
    const status = await reportStatus({ ...this.#parts, traffic: async () => await Promise.resolve(traffic) })
    const atMs = Date.now()
    return {
      atMs,
      status,
      registries: traffic.registries,
      today: this.#history.days(1, atMs),
      week: this.#history.days(7, atMs),
      minutes: this.#history.minutes(atMs),
    }
  }

  async #count(): Promise<Traffic> {
    const traffic = await this.#parts.traffic()
    this.#history.note(traffic, Date.now())
    return traffic
  }
}
