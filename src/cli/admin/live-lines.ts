import type { TextOutput } from '../environment.ts'

const REDRAW_MS = 100
const WIDTH = 80

/** Lines that are redrawn in place on a terminal. Shows nothing on other outputs. */
export class LiveLines {
  readonly #output: TextOutput
  #shown = 0
  #latest: readonly string[] = []
  #drawnAtMs = -Infinity

  constructor(output: TextOutput) {
    this.#output = output
  }

  get isLive(): boolean {
    return this.#output.isTTY === true
  }

  /** Replaces the lines, at most once per redraw interval. */
  show(lines: readonly string[]): void {
    this.#latest = lines
    if (performance.now() - this.#drawnAtMs >= REDRAW_MS) this.#draw()
  }

  /** Removes the lines, so that others can be written in their place. */
  clear(): void {
    this.#latest = []
    if (this.#shown > 0) this.#draw()
    this.#drawnAtMs = -Infinity
  }

  /** Draws the latest lines a last time, and keeps them. */
  end(): void {
    if (this.#latest.length > 0) this.#draw()
    this.#shown = 0
    this.#latest = []
  }

  #draw(): void {
    if (!this.isLive) return
    this.#drawnAtMs = performance.now()
    // The width is 0 if the terminal does not report it.
    const width = this.#output.columns || WIDTH
    const up = this.#shown === 0 ? '' : `\u001B[${this.#shown}A`
    const text = this.#latest.map(line => `\r\u001B[2K${line.slice(0, width - 1)}\n`).join('')
    // Fewer lines than before leave nothing of the others behind.
    this.#output.write(`${up}${text}\u001B[J`)
    this.#shown = this.#latest.length
  }
}
