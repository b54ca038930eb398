import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { transformSync } from 'esbuild'

/** The counts in a file are at most this old, in milliseconds, unless the loop stands still for longer. */
const WRITTEN_WITHIN_MS = 150
const SHARE = 0.999

/** Counts of the lateness of timers, one for each millisecond; the last one is of all that came later. */
export type LoopCounts = readonly number[]

/** Watches the event loops of a server that serve its clients. */
export class LoopWatch {
  readonly #directory: string
  /** What the server needs in its environment. */
  readonly env: Readonly<Record<string, string>>

  /** A process that compiles types takes more memory, so it gets the script without them. */
  constructor(directory: string) {
    this.#directory = join(directory, 'counts')
    mkdirSync(this.#directory, { recursive: true })
    const script = join(directory, 'watch.mjs')
    const source = readFileSync(new URL('./loop-watch.ts', import.meta.url), 'utf8')
    writeFileSync(script, transformSync(source, { loader: 'ts' }).code)
    this.env = { NODE_OPTIONS: `--import=${script}`, LOOP_WATCH: this.#directory }
  }

  /** Does some work and returns how late 99.9 % of the timers came meanwhile, in the worst of the loops. */
  async during<T>(work: () => Promise<T>): Promise<{ readonly value: T; readonly p999Ms: number }> {
    const before = await this.#read()
    const value = await work()
    const after = await this.#read()
    const since = [...after].map(([loop, counts]) =>
      counts.map((count, ms) => count - (before.get(loop)?.[ms] ?? 0)),
    )
    return { value, p999Ms: Math.max(...since.map(latenessOf)) }
  }

  async #read(): Promise<ReadonlyMap<string, LoopCounts>> {
    await sleep(WRITTEN_WITHIN_MS)
    const files = readdirSync(this.#directory)
    if (files.length === 0) throw new Error(`no event loop is watched in ${this.#directory}`)
    return new Map(
      files.map(file => {
        const bytes = new Uint8Array(readFileSync(join(this.#directory, file)))
        return [file, [...new Uint32Array(bytes.buffer)]]
      }),
    )
  }
}

/** Does some work; adds what was seen of a server's event loops meanwhile, if they are watched. */
export async function watched<T extends object>(
  { loop }: { readonly loop?: LoopWatch | undefined },
  work: () => Promise<T>,
): Promise<T & { readonly loopMs?: number }> {
  if (loop === undefined) return await work()
  const { value, p999Ms } = await loop.during(work)
  return { ...value, loopMs: p999Ms }
}

/**
 * The lateness that 99.9 % of all timers did not exceed, in milliseconds, rounded up; infinite if none came.
 */
export function latenessOf(counts: LoopCounts): number {
  const all = counts.reduce((sum, count) => sum + count, 0)
  if (all === 0) return Infinity
  let seen = 0
  return counts.findIndex(count => (seen += count) >= all * SHARE) + 1
}
