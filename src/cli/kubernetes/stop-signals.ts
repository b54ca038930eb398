import type { Environment } from '../environment.ts'

const STOPPING = ['SIGTERM', 'SIGINT'] as const

/** The signals of a command that runs until it is stopped. A second one tells it to hurry. */
export class StopSignals implements Disposable {
  readonly #signals: Environment['signals']
  readonly #stop = new AbortController()
  readonly #hurry = new AbortController()
  #reload: () => void = () => undefined

  constructor(signals: Environment['signals']) {
    this.#signals = signals
    for (const name of STOPPING) signals.on(name, this.#onStop)
    signals.on('SIGHUP', this.#onReload)
  }

  /** Aborts with the first signal. */
  get stop(): AbortSignal {
    return this.#stop.signal
  }

  /** Aborts with the second signal. */
  get hurry(): AbortSignal {
    return this.#hurry.signal
  }

  /** Resolves with the first signal. */
  async stopped(): Promise<void> {
    if (this.stop.aborted) return
    await new Promise<void>(resolve => {
      this.stop.addEventListener('abort', () => resolve(), { once: true })
    })
  }

  onReload(reload: () => void): void {
    this.#reload = reload
  }

  [Symbol.dispose](): void {
    for (const name of STOPPING) this.#signals.off(name, this.#onStop)
    this.#signals.off('SIGHUP', this.#onReload)
  }

  readonly #onStop = (): void => {
    if (this.stop.aborted) this.#hurry.abort()
    else this.#stop.abort()
  }

  readonly #onReload = (): void => this.#reload()
}
