import type { RegistryTraffic } from './traffic.ts'

/** Traffic within a span of time that began at `startMs`, in milliseconds since 1970. */
export interface TrafficSpan {
  readonly startMs: number
  readonly requests: number
  readonly hits: number
  readonly sentBytes: number
  readonly receivedBytes: number
}

/** The figures of a history, for the next process. */
export interface KeptTraffic {
  /** When counting began, in milliseconds since 1970. */
  readonly sinceMs: number
  /** The oldest first. */
  readonly minutes: readonly TrafficSpan[]
  readonly days: readonly TrafficSpan[]
}

type Counted = Pick<RegistryTraffic, 'requests' | 'hits' | 'sentBytes' | 'receivedBytes'>

const MINUTE_MS = 60_000
const DAY_MS = 24 * 3_600_000
const MINUTES_MAX = 60
const DAYS_MAX = 7

/**
 * The traffic of the last hour by minutes, and of the last seven days (UTC) by days. It is given the sums
 * since the start of the process, at least once a minute, and the figures that the process before has kept.
 */
export class TrafficHistory {
  /** When counting began, in milliseconds since 1970. */
  readonly sinceMs: number
  readonly #minutes: TrafficSpan[]
  readonly #days: TrafficSpan[]
  #last: Counted = { requests: 0, hits: 0, sentBytes: 0, receivedBytes: 0 }

  constructor(nowMs: number, kept: KeptTraffic = { sinceMs: nowMs, minutes: [], days: [] }) {
    // Figures from the future come from a wrong clock; everything would be added to them.
    const isPast = ({ startMs }: TrafficSpan): boolean => startMs <= nowMs
    this.sinceMs = Math.min(kept.sinceMs, nowMs)
    this.#minutes = kept.minutes.filter(isPast).slice(-MINUTES_MAX)
    this.#days = kept.days.filter(isPast).slice(-DAYS_MAX)
  }

  get kept(): KeptTraffic {
    return { sinceMs: this.sinceMs, minutes: [...this.#minutes], days: [...this.#days] }
  }

  /** Counts what has happened since the sums before. Sums that were read before those are ignored. */
  note(sums: Counted, nowMs: number): void {
    if (sums.requests < this.#last.requests || sums.sentBytes < this.#last.sentBytes) return
    const news = difference(sums, this.#last)
    this.#last = sums
    addTo(this.#minutes, { ...news, startMs: nowMs - (nowMs % MINUTE_MS) }, MINUTES_MAX)
    addTo(this.#days, { ...news, startMs: nowMs - (nowMs % DAY_MS) }, DAYS_MAX)
  }

  /** The minutes of the hour before, the oldest first; those without a note are zero. */
  minutes(nowMs: number): readonly TrafficSpan[] {
    const lastMs = nowMs - (nowMs % MINUTE_MS)
    const known = new Map(this.#minutes.map(span => [span.startMs, span]))
    return Array.from({ length: MINUTES_MAX }, (_, index) => {
      const startMs = lastMs - (MINUTES_MAX - 1 - index) * MINUTE_MS
      return known.get(startMs) ?? { startMs, requests: 0, hits: 0, sentBytes: 0, receivedBytes: 0 }
    })
  }

  /** The sum of the last days, today (UTC) being one of them. */
  days(count: number, nowMs: number): Omit<TrafficSpan, 'startMs'> {
    const firstMs = nowMs - (nowMs % DAY_MS) - (count - 1) * DAY_MS
    return this.#days.filter(({ startMs }) => startMs >= firstMs).reduce(sum, NOTHING)
  }
}

const NOTHING = { requests: 0, hits: 0, sentBytes: 0, receivedBytes: 0 } as const

function sum(one: Counted, other: Counted): Counted {
  return {
    requests: one.requests + other.requests,
    hits: one.hits + other.hits,
    sentBytes: one.sentBytes + other.sentBytes,
    receivedBytes: one.receivedBytes + other.receivedBytes,
  }
}

function difference(now: Counted, before: Counted): Counted {
  return {
    requests: now.requests - before.requests,
    hits: now.hits - before.hits,
    sentBytes: now.sentBytes - before.sentBytes,
    receivedBytes: now.receivedBytes - before.receivedBytes,
  }
}

/** A clock that was set back adds to the newest span. */
function addTo(spans: TrafficSpan[], news: TrafficSpan, max: number): void {
  const last = spans.at(-1)
  if (last === undefined || news.startMs > last.startMs) spans.push(news)
  else spans[spans.length - 1] = { ...sum(last, news), startMs: last.startMs }
  if (spans.length > max) spans.shift()
}
