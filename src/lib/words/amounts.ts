const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const

/** Bytes for people: three digits and a unit, such as `1.24 GiB`. */
export function sizeText(bytes: number): string {
  let value = Math.max(0, bytes)
  let unit = 0
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1024
    unit += 1
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2
  return `${value.toFixed(digits)} ${UNITS[unit]}`
}

/** A count with its noun, such as `1 hit` or `2 hits`. */
export function countText(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}

const SPANS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1000],
] as const

/** A span of time for people, in its largest unit: `3 d`, `5 min`, `now`. */
export function spanText(ms: number): string {
  const [unit, unitMs] = SPANS.find(([, size]) => ms >= size) ?? ['', 0]
  return unitMs === 0 ? 'now' : `${Math.floor(ms / unitMs)} ${unit}`
}

/** The time left at the present speed, such as `1 min left`. */
export function leftText(leftMs: number | undefined): string {
  return leftMs === undefined ? '' : `${leftMs < 1000 ? 'a moment' : spanText(leftMs)} left`
}

/** A speed, such as `12.4 MiB/s`. */
export function speedText(bytesPerSecond: number): string {
  return `${sizeText(bytesPerSecond)}/s`
}

/** The time since a moment, as {@link spanText}; a dash if there is no moment. */
export function agoText(iso: string | undefined, nowMs: number): string {
  if (iso === undefined) return '-'
  const text = spanText(nowMs - Date.parse(iso))
  return text === 'now' ? text : `${text} ago`
}

/** A short digest for people: the first 12 digits, without the algorithm. */
export function digestText(digest: string): string {
  return digest.slice(digest.indexOf(':') + 1, digest.indexOf(':') + 13)
}
