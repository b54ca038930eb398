import { type Environment, EXIT, type ExitCode } from '../environment.ts'
import { paintFor } from '../style.ts'

/** Writes findings as they come, and counts the problems. */
export class Report {
  readonly #environment: Environment
  #wrongs = 0

  constructor(environment: Environment) {
    this.#environment = environment
  }

  heading(text: string): void {
    this.#environment.stdout.write(`${text}\n`)
  }

  good(sentence: string): void {
    this.#line('ok', sentence)
  }

  note(sentence: string): void {
    this.#line('note', sentence)
  }

  wrong(sentence: string): void {
    this.#wrongs += 1
    this.#line('WRONG', sentence)
  }

  end(): ExitCode {
    this.heading(this.#wrongs === 0 ? 'Nothing is wrong.' : `Wrong: ${this.#wrongs}.`)
    return this.#wrongs === 0 ? EXIT.ok : EXIT.failure
  }

  #line(mark: string, sentence: string): void {
    const style = mark === 'ok' ? 'good' : mark === 'note' ? 'faint' : 'bad'
    const painted = paintFor(this.#environment.stdout, this.#environment)(style, mark.padEnd(5))
    this.#environment.stdout.write(`  ${painted}  ${sentence}\n`)
  }
}
