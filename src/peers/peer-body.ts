import type { IncomingMessage } from 'node:http'
import type { Clock } from '../lib/clock.ts'
import { UpstreamError } from '../oci/error.ts'
import type { BlobBody } from '../upstream/registry.ts'

/** Limits of a body that another replica sends. */
export interface PeerPace {
  /** After this silence the replica is asked how far it is, in milliseconds. */
  readonly silenceMs: number
  /** Longest silence of a replica that answers, in milliseconds: its registry may be slow. */
  readonly patienceMs: number
  /** Time in which at least `floorBytes` must arrive if the replica has them. */
  readonly floorMs: number
  readonly floorBytes: number
  /** For a manifest as a whole, in milliseconds. */
  readonly manifestMs: number
}

export const PEER_PACE: PeerPace = {
  silenceMs: 2000,
  patienceMs: 60_000,
  floorMs: 5000,
  floorBytes: 1024 * 1024,
  manifestMs: 5000,
}

/** How far ahead of us another replica may be while it sends too slowly. */
const LEAD_BYTES = 1024 * 1024
const LOOKS_PER_SILENCE = 4

export interface PeerBodyParts {
  readonly clock: Pick<Clock, 'monotonicMs' | 'delay'>
  readonly pace: PeerPace
  /** Name of the replica, for messages. */
  readonly name: string
  /** Offset up to which the replica could send now; `undefined` if it does not answer any more. */
  readonly probe: () => Promise<number | undefined>
  /** Called with the number of bytes of each piece. */
  readonly onBytes: (bytes: number) => void
  /** Called if the replica is found not to answer. */
  readonly onSilent: () => void
  /** Called once, when the body has ended or was given up. */
  readonly onEnd: () => void
  readonly disown: () => void
  readonly isKept?: BlobBody['isKept']
}

/** The body of a blob as another replica sends it. */
export class PeerBody implements BlobBody {
  readonly offset: number
  readonly sizeBytes: number | undefined
  /** A registry would not know it. */
  readonly validator = undefined
  readonly chunks: AsyncIterable<Uint8Array>
  readonly isKept: BlobBody['isKept']
  readonly #body: IncomingMessage
  readonly #parts: PeerBodyParts
  /** Since when the next piece is waited for; `undefined` while its reader has the turn. */
  #waitingSinceMs: number | undefined
  #windowBytes = 0
  #windowWaitedMs = 0
  #position: number
  #isProbing = false
  #probedAtMs = Number.NEGATIVE_INFINITY

  constructor(
    body: IncomingMessage,
    { offset, sizeBytes }: Pick<BlobBody, 'offset' | 'sizeBytes'>,
    parts: PeerBodyParts,
  ) {
    this.offset = offset
    this.sizeBytes = sizeBytes
    this.#position = offset
    this.#body = body
    this.#parts = parts
    this.isKept = parts.isKept
    this.chunks = this.#read()
    body.once('close', () => parts.onEnd())
  }

  /** The bytes turned out not to be the blob's. */
  disown(): void {
    this.#parts.disown()
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#body.destroy()
    this.#parts.onEnd()
    return Promise.resolve()
  }

  async *#read(): AsyncGenerator<Uint8Array> {
    const { clock, onBytes, onEnd, name } = this.#parts
    const pieces = this.#body[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>
    const over = new AbortController()
    void this.#lookUntil(over.signal)
    try {
      for (;;) {
        const sinceMs = clock.monotonicMs()
        this.#waitingSinceMs = sinceMs
        const next = await pieces.next()
        this.#waitingSinceMs = undefined
        if (next.done === true) break
        const { byteLength } = next.value
        this.#position += byteLength
        this.#count(byteLength, clock.monotonicMs() - sinceMs)
        onBytes(byteLength)
        yield next.value
      }
    } catch (error) {
      if (error instanceof UpstreamError) throw error
      throw new UpstreamError('cut', `the replica ${name} broke off the connection`, { cause: error })
    } finally {
      over.abort()
      this.#body.destroy()
      onEnd()
    }
    if (this.#position < (this.sizeBytes ?? 0))
      throw new UpstreamError('cut', `the replica ${name} broke off the connection`)
  }

  async #lookUntil(over: AbortSignal): Promise<void> {
    const { clock, pace } = this.#parts
    const everyMs = pace.silenceMs / LOOKS_PER_SILENCE
    const wait = async (): Promise<boolean> =>
      await clock.delay(everyMs, over).then(
        () => true,
        () => false,
      )
    while (await wait()) void this.#look()
  }

  #count(bytes: number, waitedMs: number): void {
    this.#windowBytes += bytes
    this.#windowWaitedMs += waitedMs
    if (this.#windowBytes >= this.#parts.pace.floorBytes) this.#beginWindow()
  }

  #beginWindow(): void {
    this.#windowBytes = 0
    this.#windowWaitedMs = 0
  }

  /** Asks a replica that sends little how far it is. Gives the body up if that is the replica's fault. */
  async #look(): Promise<void> {
    const { clock, pace, probe, onSilent, name } = this.#parts
    const sinceMs = this.#waitingSinceMs
    if (sinceMs === undefined || this.#isProbing) return
    const silentMs = clock.monotonicMs() - sinceMs
    const waitedMs = this.#windowWaitedMs + silentMs
    const isSlow = waitedMs >= pace.floorMs && this.#windowBytes < pace.floorBytes
    const isDue = clock.monotonicMs() - this.#probedAtMs >= pace.silenceMs
    if (!isDue || (silentMs < pace.silenceMs && !isSlow)) return
    const position = this.#position
    this.#isProbing = true
    const readable = await probe().finally(() => {
      this.#isProbing = false
      this.#probedAtMs = clock.monotonicMs()
    })
    if (readable === undefined) {
      if (this.#position !== position) return
      onSilent()
      this.#giveUp(`the replica ${name} does not answer any more`)
    } else if (isSlow && readable > this.#position + LEAD_BYTES)
      this.#giveUp(`the replica ${name} sends too slowly`)
    else if (silentMs >= pace.patienceMs) this.#giveUp(`the replica ${name} stopped sending`)
    else if (isSlow) this.#beginWindow()
  }

  /** The kind is `cut`, so that the rest is fetched from elsewhere at once. */
  #giveUp(message: string): void {
    this.#body.destroy(new UpstreamError('cut', message))
  }
}
