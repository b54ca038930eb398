import { type MessagePort, Worker } from 'node:worker_threads'

/** Calls that a thread answers, by their names. */
type ThreadCalls<Known> = { readonly [Name in keyof Known]: (...args: never[]) => unknown }

interface Question {
  readonly id: number
  readonly name: string
  readonly args: readonly unknown[]
}

interface Reply {
  readonly id: number
  readonly value: unknown
  /** Set if the call failed. */
  readonly error: { readonly message: string; readonly code: string | undefined } | undefined
}

/** A thread that answers calls, made by {@link answerCalls}. Only calls that wait keep the process alive. */
export class ThreadClient<Known extends ThreadCalls<Known>> implements AsyncDisposable {
  readonly #worker: Worker
  readonly #name: string
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>()
  #lastId = 0
  #end: Error | undefined

  /** Starts the thread of a source file; the build compiles it along with the file that names it. */
  constructor(name: string, source: URL) {
    this.#name = name
    const file = new URL(source.href.replace(/ts$/, import.meta.url.slice(-2)))
    this.#worker = new Worker(file, { execArgv: ['--disable-warning=ExperimentalWarning'] })
    this.#worker.on('message', (reply: Reply) => this.#settle(reply))
    this.#worker.on('error', error => this.#fail(String(error)))
    this.#worker.on('exit', () => this.#fail(`the ${name} thread has ended`))
    this.#worker.unref()
  }

  /** Calls the thread. Rejects if the call fails there, with the code of its error. */
  async call<Name extends keyof Known & string>(
    name: Name,
    ...args: Parameters<Known[Name]>
  ): Promise<Awaited<ReturnType<Known[Name]>>> {
    if (this.#end !== undefined) throw this.#end
    this.#lastId += 1
    const waiting = Promise.withResolvers<unknown>()
    this.#waiting.set(this.#lastId, waiting)
    this.#worker.ref()
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread is not a window
    this.#worker.postMessage({ id: this.#lastId, name, args } satisfies Question)
    return (await waiting.promise) as Awaited<ReturnType<Known[Name]>>
  }

  /** Ends the thread. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate()
  }

  #settle({ id, value, error }: Reply): void {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (this.#waiting.size === 0) this.#worker.unref()
    if (error === undefined) waiting?.resolve(value)
    else waiting?.reject(Object.assign(new Error(error.message), withCode(error.code)))
  }

  #fail(message: string): void {
    this.#end ??= new Error(`the ${this.#name} thread failed: ${message}`)
    for (const waiting of this.#waiting.values()) waiting.reject(this.#end)
    this.#waiting.clear()
  }
}

/** Answers the calls of a {@link ThreadClient}, from within its thread. Calls that wait overlap. */
export function answerCalls<Known extends ThreadCalls<Known>>(port: MessagePort | null, calls: Known): void {
  port?.on('message', (question: Question) => void reply(port, question, calls))
}

async function reply(port: MessagePort, question: Question, calls: object): Promise<void> {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread is not a window
  port.postMessage(await answer(question, calls))
}

async function answer({ id, name, args }: Question, calls: object): Promise<Reply> {
  try {
    const call = (calls as Readonly<Record<string, unknown>>)[name] as (
      ...given: readonly unknown[]
    ) => unknown
    return { id, value: await call(...args), error: undefined }
  } catch (error) {
    const { message, code } =
      error instanceof Error ? (error as NodeJS.ErrnoException) : { message: String(error) }
    return { id, value: undefined, error: { message, code } }
  }
}

function withCode(code: string | undefined): { readonly code?: string } {
  return code === undefined ? {} : { code }
}
