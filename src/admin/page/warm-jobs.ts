import type { AdminStreams } from '../contract.ts'

/** An image that a page asked to pull into the cache. */
export interface WarmJob {
  readonly image: string
  readonly by: string
  readonly startedAtMs: number
  /** Layers by digest. */
  readonly layers: ReadonlyMap<string, { readonly doneBytes: number; readonly sizeBytes: number }>
  readonly failed: number
  readonly state: 'running' | 'done' | 'failed'
  /** Why it failed. */
  readonly message: string | undefined
}

type Line = AdminStreams['POST warm']
type Running = { -readonly [Key in keyof WarmJob]: WarmJob[Key] } & {
  readonly layers: Map<string, { readonly doneBytes: number; readonly sizeBytes: number }>
}

/** Images warmed at once; each pulls several layers at a time. */
const RUNNING_MAX = 4
const REMEMBERED_MAX = 20

/** Images that pages asked to warm. They run on while nobody looks, and end with the daemon. */
export class WarmJobs implements AsyncDisposable {
  readonly #ended = new AbortController()
  readonly #jobs = new Map<string, Running>()
  readonly #running = new Set<Promise<void>>()

  /** Jobs that run, and the last ones that have ended; the newest first. */
  get all(): readonly WarmJob[] {
    return [...this.#jobs.values()].toReversed()
  }

  /**
   * Starts to warm an image, unless that runs already. Returns `false` if too many run.
   *
   * @param pull begins the work; it must stop when the signal aborts.
   */
  start(
    { image, by }: { readonly image: string; readonly by: string },
    pull: (signal: AbortSignal) => AsyncIterable<Line>,
  ): boolean {
    if (this.#jobs.get(image)?.state === 'running') return true
    if (this.#running.size >= RUNNING_MAX) return false
    const job: Running = {
      image,
      by,
      startedAtMs: Date.now(),
      layers: new Map(),
      failed: 0,
      state: 'running',
      message: undefined,
    }
    this.#jobs.delete(image)
    this.#jobs.set(image, job)
    this.#forget()
    const run = this.#run(job, pull).finally(() => this.#running.delete(run))
    this.#running.add(run)
    return true
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort(new Error('the daemon stops'))
    await Promise.all(this.#running)
  }

  async #run(job: Running, pull: (signal: AbortSignal) => AsyncIterable<Line>): Promise<void> {
    try {
      for await (const line of pull(this.#ended.signal)) note(job, line)
      job.state = job.failed === 0 ? 'done' : 'failed'
    } catch (error) {
      job.state = 'failed'
      job.message = error instanceof Error ? error.message : String(error)
    }
  }

  #forget(): void {
    for (const [image, { state }] of this.#jobs)
      if (this.#jobs.size > REMEMBERED_MAX && state !== 'running') this.#jobs.delete(image)
  }
}

function note(job: Running, line: Line): void {
  if (line.event === 'done') job.failed = line.failed
  if (line.event !== 'layer') return
  job.layers.set(line.digest, { doneBytes: line.doneBytes, sizeBytes: line.sizeBytes })
  if (line.state === 'failed') job.message ??= line.message
}
