import { AsyncLocalStorage } from 'node:async_hooks'

export type SpanAttributes = Readonly<Record<string, string | number | boolean | undefined>>

/** A piece of work that is traced. It is exported once it has ended. */
export interface Span {
  /** Begins a part of this work. */
  begin(name: string, attributes?: SpanAttributes): Span
  /** Begins work that may outlive this: a trace of its own, which each of the two links to. */
  beginApart(name: string, attributes?: SpanAttributes): Span
  /** Links this work to other work that it waits for. */
  link(other: Span): void
  set(attributes: SpanAttributes): void
  /** Notes a moment within the work. */
  note(moment: string): void
  /** Marks the work as failed. */
  fail(error: unknown): void
  end(): void
  /** Names this work to another thread, as in W3C Trace Context. */
  readonly traceparent: string
}

const current = new AsyncLocalStorage<Span>()

/** The span of the work that is running; `undefined` if it is not traced. */
export function currentSpan(): Span | undefined {
  return current.getStore()
}

/** Runs work as part of a span. */
export function within<T>(span: Span, work: () => T): T {
  return current.run(span, work)
}

/** Runs work as a span of its own, if what it is part of is traced. */
export async function traced<T>(
  name: string,
  work: () => Promise<T>,
  attributes: SpanAttributes = {},
): Promise<T> {
  const span = currentSpan()?.begin(name, attributes)
  if (span === undefined) return await work()
  try {
    return await within(span, work)
  } catch (error) {
    span.fail(error)
    throw error
  } finally {
    span.end()
  }
}
