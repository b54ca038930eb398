import { read } from 'node:fs'
import { promisify } from 'node:util'
import { memoryContent } from '../../content/memory-content.ts'
import { readableBytes, SharedProgress } from '../../content/tail.ts'
import { settledOrAborted } from '../../lib/abort.ts'
import { readAhead } from '../../lib/read-ahead.ts'
import { BufferPool, type ReaderBuffers } from '../../lib/reader-buffers.ts'
import type { ByteRange, Content } from '../../oci/content.ts'
import type { Channel } from './channel.ts'
import type { AnswerText, FileText, MirrorCalls } from './protocol.ts'

const readDescriptor = promisify(read)

/** Buffers of a thread's readers: its own, and shared ones that the first thread fills. */
export interface RemoteBuffers {
  readonly own: BufferPool
  readonly shared: BufferPool
}

export function createRemoteBuffers(): RemoteBuffers {
  return {
    own: new BufferPool(),
    shared: new BufferPool(sizeBytes => Buffer.from(new SharedArrayBuffer(sizeBytes))),
  }
}

/**
 * Content that the first thread holds for us. It is read from its file if it has one, and otherwise received
 * from the first thread piece by piece.
 */
export function remoteContent(
  answer: AnswerText,
  channel: Channel<MirrorCalls>,
  buffers: RemoteBuffers,
): Content {
  const { digest, mediaType, sizeBytes, content } = answer
  if (content.kind === 'bytes') return memoryContent({ digest, mediaType, bytes: content.bytes })
  const { id, file } = content
  const progress = file?.kind === 'growing' ? new SharedProgress(file.progress) : undefined
  const whole = file?.kind === 'whole' ? file : undefined
  const fromMirror: Content['read'] = (range, signal, isContinued = false) =>
    readStream(channel, { id, range, isContinued, buffers: buffers.shared }, signal)
  return {
    digest,
    mediaType,
    get sizeBytes() {
      return sizeBytes ?? progress?.progress.sizeBytes
    },
    file:
      file?.kind === 'growing' && progress !== undefined ? { kind: 'growing', fd: file.fd, progress } : whole,
    redirect: content.canRedirect ? { locate: async () => await channel.call('locate', id) } : undefined,
    read: (range, signal, isContinued = false) =>
      file === undefined
        ? fromMirror(range, signal, isContinued)
        : readFile({ file, sizeBytes, fromMirror, isContinued, buffers: buffers.own }, range, signal),
    [Symbol.asyncDispose]: async () => {
      channel.tell('release', id)
      await Promise.resolve()
    },
  }
}

interface FileReading {
  readonly file: FileText
  readonly buffers: BufferPool
  readonly sizeBytes: number | undefined
  readonly fromMirror: Content['read']
  readonly isContinued: boolean
}

/** Reads the file directly, and continues with bytes from the first thread if the file fails. */
async function* readFile(
  { file, sizeBytes, fromMirror, isContinued, buffers }: FileReading,
  range: ByteRange,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  let offset = range.start
  try {
    const pieces =
      file.kind === 'whole'
        ? readWhole(file.fd, buffers, { start: range.start, end: Math.min(range.end, sizeBytes ?? 0) })
        : followFile({ ...file, pool: buffers }, range, signal)
    for await (const piece of pieces) {
      if (signal.aborted) return
      offset += piece.byteLength
      yield piece
    }
    return
  } catch {
    if (signal.aborted) return
    // The first thread owns the file. It finds the defect when it reads the file for us.
  }
  yield* fromMirror({ start: offset, end: range.end }, signal, isContinued || offset > range.start)
}

function readWhole(fd: number, buffers: BufferPool, { start, end }: ByteRange): AsyncIterable<Uint8Array> {
  const readInto = async (buffer: Buffer, position: number, length: number): Promise<void> => {
    for (let filled = 0; filled < length; ) {
      const count = await readAt(fd, buffer.subarray(filled, length), position + filled)
      if (count === 0) throw new Error('the file ends before its size')
      filled += count
    }
  }
  return readAhead(buffers, readInto, { start, end })
}

/**
 * Yields the bytes of a file that another thread is writing, as they arrive. Throws once the file cannot
 * supply them any more: the caller then gets the rest from the other thread.
 */
async function* followFile(
  { pool, ...file }: GrowingFile & { readonly pool: BufferPool },
  range: ByteRange,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const buffers = pool.enter()
  try {
    yield* followPieces({ ...file, buffers }, range, signal)
  } finally {
    buffers.leave()
  }
}

type GrowingFile = FileText & { readonly kind: 'growing' }

async function* followPieces(
  { fd, progress: memory, buffers }: GrowingFile & { readonly buffers: ReaderBuffers },
  { start, end }: ByteRange,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const shared = new SharedProgress(memory)
  let offset = start
  let buffer: Buffer | undefined
  while (!signal.aborted) {
    const { changes } = shared
    const { state, writtenBytes, sizeBytes } = shared.progress
    const last = Math.min(end, sizeBytes ?? Infinity)
    // Empty content has no tail to withhold, so its end waits for the proof.
    if (offset >= last && (last > 0 || state === 'proved')) return
    const limit = Math.min(last, readableBytes(state === 'proved', writtenBytes, sizeBytes))
    if (state === 'lost') throw new Error('the file can no longer be read')
    if (offset >= limit) {
      await settledOrAborted(shared.wait(changes), signal)
      continue
    }
    buffer ??= buffers.take(buffers.pieceBytes)
    const count = await readAt(fd, buffer.subarray(0, limit - offset), offset)
    if (count === 0) throw new Error('the file is shorter than what was written')
    offset += count
    yield buffer.subarray(0, count)
  }
}

async function readAt(fd: number, buffer: Uint8Array, position: number): Promise<number> {
  const { bytesRead } = await readDescriptor(fd, buffer, 0, buffer.byteLength, position)
  return bytesRead
}

interface StreamReading {
  readonly id: number
  readonly range: ByteRange
  readonly isContinued: boolean
  readonly buffers: BufferPool
}

/** Lets the first thread read the content. The next piece is fetched while the current one is in use. */
async function* readStream(
  channel: Channel<MirrorCalls>,
  { id, range, isContinued, buffers: pool }: StreamReading,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const streamId = await channel.call('openStream', id, range, isContinued)
  const buffers = pool.enter()
  const next = (target: Buffer): Promise<Uint8Array> => {
    const piece = channel.call('nextPiece', streamId, target).then(length => target.subarray(0, length))
    // The reader that awaits `piece` sees the failure. This keeps an early one from counting as unhandled.
    piece.catch(() => undefined)
    return piece
  }
  let [current, other] = [buffers.take(buffers.pieceBytes), buffers.take(buffers.pieceBytes)]
  let ahead = next(current)
  try {
    while (!signal.aborted) {
      await settledOrAborted(ahead, signal)
      const piece = signal.aborted ? undefined : await ahead
      if (piece === undefined || piece.byteLength === 0) return
      ahead = next(other)
      yield piece
      ;[current, other] = [other, current]
    }
  } finally {
    channel.tell('closeStream', streamId)
    // Until the first thread has answered, it may still write into the buffer.
    await ahead.catch(() => undefined)
    buffers.leave()
  }
}
