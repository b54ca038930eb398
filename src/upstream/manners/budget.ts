import { type AnswerHeaders, headerOf } from '../answer.ts'

/** `100;w=21600`: a count, and its window in seconds. */
const COUNT = /^([0-9]{1,9})(?:;|$)/
const WINDOW = /;w=([0-9]{1,9})(?:;|$)/
/** A budget is low if at most this part of it is left. */
const LOW_PART = 0.1
/** A budget of unknown size is low if at most this many pulls are left. */
const LOW_COUNT = 10

/** Pulls left, out of how many, and the length of the window for which that holds. */
export interface StatedBudget {
  readonly remaining: number
  readonly limit: number | undefined
  readonly windowMs: number | undefined
}

/**
 * The pulls that an upstream still allows, by `ratelimit-limit` and `ratelimit-remaining`. Docker Hub sends
 * them with every answer about a manifest. HEADs cost no pull there and carry them too, so that we notice
 * when a new window begins.
 */
export class Budget {
  #limit: number | undefined
  #remaining: number | undefined

  /** Reads an answer's headers. Returns what they state of the pulls left, if they do. */
  note(headers: AnswerHeaders): StatedBudget | undefined {
    const remaining = countOf(headers, 'ratelimit-remaining')
    if (remaining === undefined) return undefined
    this.#remaining = remaining
    this.#limit = countOf(headers, 'ratelimit-limit') ?? this.#limit
    return { remaining, limit: this.#limit, windowMs: windowOf(headers) }
  }

  /** True if at most a tenth of the budget is left, or at most ten pulls of a budget of unknown size. */
  get isLow(): boolean {
    if (this.#remaining === undefined) return false
    return this.#remaining <= (this.#limit === undefined ? LOW_COUNT : this.#limit * LOW_PART)
  }
}

function countOf(headers: AnswerHeaders, name: string): number | undefined {
  const text = COUNT.exec(headerOf(headers, name) ?? '')?.[1]
  return text === undefined ? undefined : Number(text)
}

function windowOf(headers: AnswerHeaders): number | undefined {
  for (const name of ['ratelimit-remaining', 'ratelimit-limit']) {
    const text = WINDOW.exec(headerOf(headers, name) ?? '')?.[1]
    if (text !== undefined) return Number(text) * 1000
  }
  return undefined
}
