/** A value that is replaced as a whole. Users read it again each time. */
export class Current<T> {
  #value: T

  constructor(value: T) {
    this.#value = value
  }

  get current(): T {
    return this.#value
  }

  replace(value: T): void {
    this.#value = value
  }
}
