/** Times of {@link MirrorHealth}, in milliseconds. */
export interface HealthTimes {
  /** Time without an answer after which the mirror counts as down. */
  readonly unhealthyAfterMs: number
  /** Time of answers alone after which it counts as up again. */
  readonly healthyAfterMs: number
}

/** Whether clients should ask the mirror, by its answers over time. It begins as up. */
export class MirrorHealth {
  readonly #times: HealthTimes
  #lastAnswerMs: number
  #upSinceMs: number | undefined
  #isUp = true

  constructor(times: HealthTimes, nowMs: number) {
    this.#times = times
    this.#lastAnswerMs = nowMs
  }

  get isUp(): boolean {
    return this.#isUp
  }

  /** Notes that the mirror answered, or did not. Returns {@link isUp}. */
  note(isAnswering: boolean, nowMs: number): boolean {
    if (isAnswering) {
      this.#lastAnswerMs = nowMs
      this.#upSinceMs ??= nowMs
      if (nowMs - this.#upSinceMs >= this.#times.healthyAfterMs) this.#isUp = true
    } else {
      this.#upSinceMs = undefined
      if (nowMs - this.#lastAnswerMs >= this.#times.unhealthyAfterMs) this.#isUp = false
    }
    return this.#isUp
  }
}
