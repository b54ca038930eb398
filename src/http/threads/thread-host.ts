import type { Worker } from 'node:worker_threads'
import type { Identifier } from '../../access/ruled-access.ts'
import type { Answer, ContentAnswering, Head } from '../../content/answering.ts'
import type { Ledger } from '../../content/ledger.ts'
import { SharedProgress } from '../../content/tail.ts'
import type { SharedCount } from '../../lib/shared-count.ts'
import type { Events } from '../../observe/events.ts'
import type { ThreadMetrics } from '../../observe/metrics.ts'
import type { Output } from '../../observe/output.ts'
import type { RecentClients } from '../../observe/recent-clients.ts'
import type { RecentPulls } from '../../observe/recent-pulls.ts'
import type { ByteRange, Content } from '../../oci/content.ts'
import type { Digest } from '../../oci/digest.ts'
import type { ListenerTls } from '../tls/listener-tls.ts'
import { type Calls, Channel } from './channel.ts'
import type {
  Account,
  AnswerText,
  ContentRequest,
  DirectoryText,
  FileText,
  HeadText,
  MirrorCalls,
  SharedAddress,
  ThreadCalls,
} from './protocol.ts'

/** The parts of the first thread that answer a further one. */
export interface HostParts {
  readonly answering: ContentAnswering
  readonly identifier: Identifier
  /** Notified of manifests that were served again from memory. */
  readonly mirror: { shownAgain(digest: Digest): Promise<void> }
  readonly ledger: Pick<Ledger, 'used'>
  readonly recentPulls: Pick<RecentPulls, 'note'>
  readonly recentClients: Pick<RecentClients, 'merge'>
  readonly events: Pick<Events, 'audited' | 'storageFailed' | 'tracing'>
  /** Destination of the thread's log lines. */
  readonly output: Output
  /** Number of log characters on their way from threads. */
  readonly waitingLog: SharedCount
}

interface Stream {
  readonly pieces: AsyncIterator<Uint8Array>
  readonly left: AbortController
  /** Rest of a piece that did not fit into the reader's memory; valid until the next piece is requested. */
  rest: Uint8Array
}

const NOTHING = new Uint8Array(0)
/**
 * Longest wait for a busy thread's metrics, in milliseconds; `CUT_MS` is the longest wait for its last
 * report.
 */
const METRICS_MS = 2000
const CUT_MS = 1000

/** One further thread, as the first thread sees it: answers its calls, and holds its content. */
export class ThreadHost implements AsyncDisposable {
  readonly #worker: Worker
  readonly #parts: HostParts
  readonly #channel: Channel<ThreadCalls>
  readonly #held = new Map<number, Content>()
  readonly #streams = new Map<number, Stream>()
  #lastId = 0
  #isEnding = false
  /** True once the thread has ended. Nothing is held for it any more. */
  #isOver = false
  #lastMetrics: ThreadMetrics | undefined

  /** @param failed is called if the thread ends without being told to. */
  constructor(worker: Worker, parts: HostParts, failed: (error: Error) => void) {
    this.#worker = worker
    this.#parts = parts
    this.#channel = new Channel<ThreadCalls>(worker, this.#calls())
    worker.once('error', (error: Error) => failed(error))
    worker.once('exit', () => {
      const error = new Error('a further thread has ended')
      this.#channel.end(error)
      this.#noted(this.#letGo())
      if (!this.#isEnding) failed(error)
    })
  }

  async listen(address: SharedAddress): Promise<void> {
    await this.#channel.call('listen', address)
  }

  /** Resolves once the thread uses these terms. */
  async secure(tls: ListenerTls): Promise<void> {
    await this.#channel.call('secure', tls)
  }

  /** Resolves once the thread uses this directory. */
  async direct(directory: DirectoryText): Promise<void> {
    await this.#channel.call('direct', directory)
  }

  /** Stops new work; resolves when the thread has finished, or has ended. */
  async drain(): Promise<void> {
    await this.#channel.call('drain').catch(() => undefined)
  }

  /** The thread's metrics. If it is too busy to answer, the last known ones: a sum must not fall. */
  async metrics(): Promise<ThreadMetrics | undefined> {
    this.#lastMetrics = (await within(METRICS_MS, this.#channel.call('metrics'))) ?? this.#lastMetrics
    return this.#lastMetrics
  }

  /** Resolves once everything that the thread has answered is reported, or if it is too busy for that. */
  async report(): Promise<void> {
    await within(METRICS_MS, this.#channel.call('report'))
  }

  /** Ends the thread. Transfers in progress are cut, and reported in the log. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isEnding = true
    await within(CUT_MS, this.#channel.call('cut'))
    await this.#worker.terminate()
    await this.#letGo()
  }

  #calls(): MirrorCalls & Calls {
    return {
      answer: async request => {
        const { tracing } = this.#parts.events
        if (tracing === undefined) return await this.#answer(request)
        return await tracing.resume(request.traceparent, () => this.#answer(request))
      },
      identify: async (authorization, client) => {
        const { identity, untilMs } = await this.#parts.identifier.identify(authorization, client)
        return { identity, untilMs }
      },
      locate: async id => await this.#content(id).redirect?.locate(),
      openStream: (id, range, isContinued) => this.#openStream(id, range, isContinued),
      nextPiece: async (id, target) => await this.#nextPiece(id, target),
      closeStream: id => this.#noted(this.#closeStream(id)),
      release: id => this.#noted(this.#release(id)),
      account: account => this.#account(account),
      audited: entry => this.#parts.events.audited(entry),
      log: lines => {
        this.#parts.output.write(lines)
        this.#parts.waitingLog.add(-lines.length)
      },
    }
  }

  /** Handles a promise that nothing awaits: a failure is logged. */
  #noted(ending: Promise<void>): void {
    ending.catch((error: unknown) => this.#parts.events.storageFailed('close', error))
  }

  async #answer(request: ContentRequest): Promise<AnswerText | HeadText> {
    const { answering } = this.#parts
    const { asked } = request
    if (request.kind === 'manifest') {
      if (request.method === 'HEAD') return headText(await answering.headManifest(asked, request.reference))
      return await this.#text(await answering.pullManifest(asked, request.reference))
    }
    if (request.method === 'HEAD') return headText(await answering.headBlob(asked, request.digest))
    return await this.#text(await answering.pullBlob(asked, request.digest))
  }

  /** An answer in a form that can be sent: with its bytes, or held here until it is released. */
  async #text({ content, outcome, repeatable }: Answer): Promise<AnswerText> {
    const { digest, mediaType, sizeBytes, bytes } = content
    const text = { digest, mediaType, sizeBytes, outcome, repeatable: repeatableText(repeatable) }
    // Bytes in memory have no owner, so nothing needs to be disposed of.
    if (bytes !== undefined) return { ...text, content: { kind: 'bytes', bytes } }
    if (this.#isOver) {
      await content[Symbol.asyncDispose]()
      throw new Error('the thread that asked has ended')
    }
    this.#lastId += 1
    this.#held.set(this.#lastId, content)
    const canRedirect = content.redirect !== undefined
    return { ...text, content: { kind: 'held', id: this.#lastId, file: fileText(content), canRedirect } }
  }

  #content(id: number): Content {
    const content = this.#held.get(id)
    if (content === undefined) throw new Error('the content was released')
    return content
  }

  #openStream(id: number, range: ByteRange, isContinued: boolean): number {
    const left = new AbortController()
    const pieces = this.#content(id).read(range, left.signal, isContinued)[Symbol.asyncIterator]()
    this.#lastId += 1
    this.#streams.set(this.#lastId, { pieces, left, rest: NOTHING })
    return this.#lastId
  }

  /**
   * Copies the next bytes into the reader's memory, unless the reader has gone: its buffer may already belong
   * to another one.
   */
  async #nextPiece(id: number, target: Uint8Array): Promise<number> {
    const stream = this.#streams.get(id)
    if (stream === undefined) return 0
    while (stream.rest.byteLength === 0) {
      const next = await stream.pieces.next()
      if (next.done === true || stream.left.signal.aborted) return 0
      stream.rest = next.value
    }
    const piece = stream.rest.subarray(0, target.byteLength)
    target.set(piece)
    stream.rest = stream.rest.subarray(piece.byteLength)
    return piece.byteLength
  }

  async #closeStream(id: number): Promise<void> {
    const stream = this.#streams.get(id)
    this.#streams.delete(id)
    stream?.left.abort(new Error('the client left'))
    await stream?.pieces.return?.(undefined)
  }

  async #release(id: number): Promise<void> {
    const content = this.#held.get(id)
    this.#held.delete(id)
    await content?.[Symbol.asyncDispose]()
  }

  /**
   * Ends the streams in the background: a read in progress may wait for content that is disposed of after
   * this.
   */
  async #letGo(): Promise<void> {
    this.#isOver = true
    for (const id of this.#streams.keys()) this.#noted(this.#closeStream(id))
    await Promise.all([...this.#held.keys()].map(async id => await this.#release(id)))
  }

  #account({ used, shown, pulls, clients }: Account): void {
    const { mirror, ledger, recentPulls, recentClients } = this.#parts
    for (const { digest, hits, servedBytes } of used) ledger.used(digest, { hits, servedBytes })
    for (const digest of shown) void mirror.shownAgain(digest)
    for (const { place, reference, outcome, status, message, hits, client } of pulls) {
      const error = message === undefined ? undefined : new Error(message)
      recentPulls.note(place, reference, { outcome, status, error, hits, client })
    }
    recentClients.merge(clients)
  }
}

/**
 * The content's file, for another thread. A file whose progress is not in shared memory is read here instead.
 */
function fileText({ file }: Content): FileText | undefined {
  if (file === undefined || file.kind === 'whole') return file
  const { fd } = file
  const progress = file.progress.shared ?? file.progress
  return progress instanceof SharedProgress ? { kind: 'growing', fd, progress: progress.memory } : undefined
}

function headText(head: Head): HeadText {
  return { ...head, repeatable: repeatableText(head.repeatable) }
}

function repeatableText(repeatable: Answer['repeatable']): AnswerText['repeatable'] {
  if (repeatable === undefined) return undefined
  const { epoch, forMs, again } = repeatable
  return { epoch, forMs, isShown: again !== undefined }
}

/** The result of a promise; `undefined` if it fails or takes longer than `limitMs`. */
async function within<T>(limitMs: number, promise: Promise<T>): Promise<T | undefined> {
  const { promise: over, resolve } = Promise.withResolvers<undefined>()
  const timer = setTimeout(resolve, limitMs, undefined)
  try {
    return await Promise.race([promise.catch(() => undefined), over])
  } finally {
    clearTimeout(timer)
  }
}
