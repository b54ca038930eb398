import type { Worker } from 'node:worker_threads'
import type { RecentPulls } from '../http/recent-pulls.ts'
import type { Answering } from '../mirror/answers.ts'
import type { Ledger } from '../mirror/ledger.ts'
import type { Answer, Head, Mirror } from '../mirror/mirror.ts'
import type { Events } from '../observe/events.ts'
import type { ThreadMetrics } from '../observe/metrics.ts'
import type { Output } from '../observe/output.ts'
import type { RecentClients } from '../observe/recent-clients.ts'
import type { ByteRange, Content } from '../oci/content.ts'
import { type Calls, Channel, Handover } from './channel.ts'
import type { Account, AnswerText, DirectoryText, HeadText, MirrorCalls, ThreadCalls } from './protocol.ts'

/** What a thread that serves is answered from. */
export interface HostParts {
  readonly answering: Answering
  readonly mirror: Pick<Mirror, 'shownAgain'>
  readonly ledger: Pick<Ledger, 'used'>
  readonly recentPulls: Pick<RecentPulls, 'note'>
  readonly recentClients: Pick<RecentClients, 'merge'>
  readonly probeStore: () => Promise<void>
  readonly events: Pick<Events, 'storageFailed'>
  /** Where the lines of the thread's log go. */
  readonly output: Output
}

interface Stream {
  readonly pieces: AsyncIterator<Uint8Array>
  readonly left: AbortController
}

/** One further thread that serves, as the thread with the mirror sees it: what it asks, and what it holds. */
export class ThreadHost implements AsyncDisposable {
  readonly #worker: Worker
  readonly #parts: HostParts
  readonly #channel: Channel<ThreadCalls>
  readonly #held = new Map<number, Content>()
  readonly #streams = new Map<number, Stream>()
  #lastId = 0
  #isEnding = false

  /** @param failed is told if the thread ends though nobody ended it. */
  constructor(worker: Worker, parts: HostParts, failed: (error: Error) => void) {
    this.#worker = worker
    this.#parts = parts
    this.#channel = new Channel<ThreadCalls>(worker, this.#calls())
    worker.once('error', (error: Error) => failed(error))
    worker.once('exit', () => {
      const error = new Error('a thread that serves has ended')
      this.#channel.end(error)
      this.#noted(this.#letGo())
      if (!this.#isEnding) failed(error)
    })
  }

  async listen(host: string, port: number): Promise<void> {
    await this.#channel.call('listen', host, port)
  }

  direct(directory: DirectoryText): void {
    this.#channel.tell('direct', directory)
  }

  /** Has the thread take no new work; resolves when it has ended what it had, or is no more. */
  async drain(): Promise<void> {
    await this.#channel.call('drain').catch(() => undefined)
  }

  async metrics(): Promise<ThreadMetrics> {
    return await this.#channel.call('metrics')
  }

  /** Ends the thread; what it was sending is cut. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isEnding = true
    await this.#worker.terminate()
    await this.#letGo()
  }

  #calls(): MirrorCalls & Calls {
    const { answering, probeStore } = this.#parts
    return {
      pullManifest: async (asked, reference) => this.#text(await answering.pullManifest(asked, reference)),
      headManifest: async (asked, reference) => headText(await answering.headManifest(asked, reference)),
      pullBlob: async (asked, digest) => this.#text(await answering.pullBlob(asked, digest)),
      headBlob: async (asked, digest) => headText(await answering.headBlob(asked, digest)),
      listTags: async (asked, page) => await answering.listTags(asked, page),
      referrers: async (asked, digest, artifactType) =>
        await answering.referrers(asked, digest, artifactType),
      probeStore,
      locate: async id => await this.#content(id).locate?.(),
      openStream: (id, range, isContinued) => this.#openStream(id, range, isContinued),
      nextPiece: async id => (await this.#nextPiece(id)) as Uint8Array | undefined,
      closeStream: id => this.#noted(this.#closeStream(id)),
      release: id => this.#noted(this.#release(id)),
      account: account => this.#account(account),
      log: lines => this.#parts.output.write(lines),
    }
  }

  /** For what nobody waits for. */
  #noted(ending: Promise<void>): void {
    ending.catch((error: unknown) => this.#parts.events.storageFailed('close', error))
  }

  /** An answer as it can be told: with its bytes, or held here until it is released. */
  #text({ content, outcome, repeatable }: Answer): AnswerText {
    const { digest, mediaType, sizeBytes, bytes } = content
    const text = { digest, mediaType, sizeBytes, outcome, repeatable: repeatableText(repeatable) }
    // Bytes in memory need no owner, so that nothing is to be disposed of.
    if (bytes !== undefined) return { ...text, content: { kind: 'bytes', bytes } }
    this.#lastId += 1
    this.#held.set(this.#lastId, content)
    const isLocatable = content.locate !== undefined
    return { ...text, content: { kind: 'held', id: this.#lastId, file: content.file, isLocatable } }
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
    this.#streams.set(this.#lastId, { pieces, left })
    return this.#lastId
  }

  /** The piece is copied once, since the buffer that it is in is used again, and then handed over. */
  async #nextPiece(id: number): Promise<Handover | undefined> {
    const stream = this.#streams.get(id)
    const next = await stream?.pieces.next()
    if (next === undefined || next.done === true) return undefined
    const copy = new Uint8Array(next.value)
    return new Handover(copy, [copy.buffer])
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

  async #letGo(): Promise<void> {
    for (const id of this.#streams.keys()) await this.#closeStream(id)
    for (const id of this.#held.keys()) await this.#release(id)
  }

  #account({ used, shown, pulls, clients }: Account): void {
    const { mirror, ledger, recentPulls, recentClients } = this.#parts
    for (const { digest, hits, servedBytes } of used) ledger.used(digest, { hits, servedBytes })
    for (const digest of shown) void mirror.shownAgain(digest)
    for (const { place, reference, outcome, status, message } of pulls) {
      const error = message === undefined ? undefined : new Error(message)
      recentPulls.note(place, reference, { outcome, status, error })
    }
    recentClients.merge(clients)
  }
}

function headText(head: Head): HeadText {
  return { ...head, repeatable: repeatableText(head.repeatable) }
}

function repeatableText(repeatable: Answer['repeatable']): AnswerText['repeatable'] {
  if (repeatable === undefined) return undefined
  const { epoch, forMs, again } = repeatable
  return { epoch, forMs, isShown: again !== undefined }
}
