import type { BufferPool } from './reader-buffers.ts'

/** Most pieces that {@link gathered} yields at once, however small they are. */
const PIECES_MAX = 256

/** Fills the first `length` bytes of the buffer with the bytes that start at `position`. */
export type ReadInto = (buffer: Buffer, position: number, length: number) => Promise<void>

/**
 * Yields `[start, end)` in pieces of at most 256 KiB, each valid until the next one is requested. Two buffers
 * alternate: while the reader uses one, the next read fills the other.
 */
export async function* readAhead(
  pool: BufferPool,
  readInto: ReadInto,
  { start, end }: { readonly start: number; readonly end: number },
): AsyncGenerator<Uint8Array> {
  const buffers = pool.enter()
  const { pieceBytes } = buffers
  const length = end - start
  let current = buffers.take(length)
  let other = buffers.take(Math.max(length - pieceBytes, 0))
  let position = start
  const begin = (buffer: Buffer): Promise<Uint8Array> | undefined => {
    if (position >= end) return undefined
    const count = Math.min(pieceBytes, end - position)
    const piece = count === buffer.length ? buffer : buffer.subarray(0, count)
    const reading = readInto(buffer, position, count).then(() => piece)
    // The reader that awaits `reading` sees the failure. This keeps an early one from counting as unhandled.
    reading.catch(() => undefined)
    return reading
  }
  let ahead = begin(current)
  try {
    while (ahead !== undefined) {
      const piece: Uint8Array = await ahead
      position += piece.length
      ahead = begin(other)
      yield piece
      ;[current, other] = [other, current]
    }
  } finally {
    // A read in progress would otherwise write into a buffer that already belongs to another reader.
    await ahead?.catch(() => undefined)
    buffers.leave()
  }
}

/**
 * Reads a source ahead of its reader, and yields all pieces that have arrived since the last time, in order.
 * Pieces that arrive while the reader is busy so take one step together instead of one each. At most
 * `aheadBytes` and one piece wait in memory. A failure of the source comes after the pieces before it. A
 * reader that leaves has to close the source: it may be waiting for a piece.
 */
export async function* gathered(
  source: AsyncIterable<Uint8Array>,
  aheadBytes: number,
): AsyncGenerator<readonly Uint8Array[]> {
  const ahead = new Ahead(source, aheadBytes)
  try {
    for (let pieces = await ahead.take(); pieces.length > 0; pieces = await ahead.take()) yield pieces
  } finally {
    ahead.leave()
  }
}

/**
 * Frees the memory of a piece that nobody uses any more, without waiting for the garbage collector: the next
 * piece that arrives gets memory that is still in the processor's cache. A piece of a larger buffer stays.
 */
export function free({ buffer, byteLength }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && byteLength === buffer.byteLength) buffer.transfer(0)
}

/** Number of bytes in all pieces. */
export function bytesIn(pieces: readonly Uint8Array[]): number {
  let bytes = 0
  for (const piece of pieces) bytes += piece.byteLength
  return bytes
}

class Ahead {
  readonly #source: AsyncIterator<Uint8Array>
  readonly #bytesMax: number
  #pieces: Uint8Array[] = []
  #bytes = 0
  #isPulling = false
  #isOver = false
  #failure: { readonly error: unknown } | undefined
  #wake: () => void = () => undefined

  constructor(source: AsyncIterable<Uint8Array>, bytesMax: number) {
    this.#source = source[Symbol.asyncIterator]()
    this.#bytesMax = bytesMax
  }

  /** Waits for the next pieces; there are none at the end. */
  async take(): Promise<readonly Uint8Array[]> {
    while (this.#pieces.length === 0) {
      if (this.#failure !== undefined) throw this.#failure.error
      if (this.#isOver) return []
      const arrival = new Promise<void>(resolve => (this.#wake = resolve))
      void this.#pull()
      await arrival
    }
    const pieces = this.#pieces
    this.#pieces = []
    this.#bytes = 0
    void this.#pull()
    return pieces
  }

  leave(): void {
    this.#isOver = true
    // Not awaited: the source may be waiting for a piece until it is closed.
    Promise.resolve(this.#source.return?.()).catch(() => undefined)
  }

  /** Pulls until enough is waiting. Never rejects. */
  async #pull(): Promise<void> {
    if (this.#isPulling) return
    this.#isPulling = true
    try {
      while (!this.#isOver && this.#bytes < this.#bytesMax && this.#pieces.length < PIECES_MAX) {
        const next = await this.#source.next()
        if (next.done === true) {
          this.#isOver = true
          break
        }
        this.#pieces.push(next.value)
        this.#bytes += next.value.byteLength
        this.#wake()
      }
    } catch (error) {
      this.#isOver = true
      this.#failure = { error }
    } finally {
      this.#isPulling = false
      this.#wake()
    }
  }
}
