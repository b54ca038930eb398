import { type Html, html } from '../html.ts'

const WIDTH = 300
const HEIGHT = 40

/** A line of values over time, as a picture with a name. */
export function sparkline(label: string, values: readonly number[]): Html {
  const max = Math.max(1, ...values)
  const step = WIDTH / Math.max(1, values.length - 1)
  const points = values.map(
    (value, index) => `${round(index * step)},${round(HEIGHT - 1 - (value / max) * (HEIGHT - 2))}`,
  )
  const line = points.join(' ')
  return html`<svg class="spark" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${label}">
<polygon points="0,${HEIGHT} ${line} ${WIDTH},${HEIGHT}"/><polyline points="${line}"/></svg>`
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}
