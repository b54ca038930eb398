import { once } from 'node:events'
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { arch, platform } from 'node:os'
import { fileURLToPath } from 'node:url'

/** Sends stored files to clients inside the kernel, without copying their bytes through this process. */
export interface FileSender {
  /** The descriptor of a socket that {@link send} may be used with; `undefined` for any other connection. */
  socketOf(socket: Socket | null): number | undefined
  /**
   * Hands at most `length` bytes of a file to a socket, and returns how many it took: 0 if it has no room,
   * the connection is broken or the file cannot be read. Never waits for the client; waits for the disk if
   * the bytes are not in memory. Both descriptors must be open.
   */
  send(socket: number, span: FileSpan): number
  /** True if all bytes of the span are in memory, so that {@link send} does not wait for the disk. */
  isInMemory(span: FileSpan): boolean
}

/** Consecutive bytes of an open file. */
export interface FileSpan {
  readonly fd: number
  readonly offset: number
  readonly length: number
}

/**
 * Opens the way into the kernel; `undefined` where it does not exist: Node without `node:ffi`, another system
 * than 64-bit Linux, or a kernel that does not pass the self-test.
 */
export async function openFileSender({
  hasCachestat = true,
}: {
  readonly hasCachestat?: boolean
} = {}): Promise<FileSender | undefined> {
  if (platform() !== 'linux' || !SIZES_KNOWN.has(arch())) return undefined
  try {
    const sender = new KernelSender(await bindFunctions(), hasCachestat)
    return (await passesSelfTest(sender)) ? sender : undefined
  } catch {
    return undefined
  }
}

/** Architectures on which `off_t` and `size_t` have 64 bits, and `cachestat` its number below. */
const SIZES_KNOWN: ReadonlySet<string> = new Set(['x64', 'arm64'])
const CACHESTAT = 451n
const PAGE_BYTES = 4096

type Functions = Awaited<ReturnType<typeof bindFunctions>>

/** The library stays open as long as the process: a function of a closed one must not be called. */
async function bindFunctions() {
  const { dlopen } = await import('node:ffi')
  return dlopen(null, {
    sendfile: { arguments: ['int32', 'int32', 'buffer', 'uint64'], return: 'int64' },
    syscall: { arguments: ['int64', 'int64', 'buffer', 'buffer', 'int64'], return: 'int64' },
    mmap: { arguments: ['uint64', 'uint64', 'int32', 'int32', 'int32', 'int64'], return: 'int64' },
    mincore: { arguments: ['uint64', 'uint64', 'buffer'], return: 'int32' },
    munmap: { arguments: ['uint64', 'uint64'], return: 'int32' },
    getpagesize: { arguments: [], return: 'int32' },
    geteuid: { arguments: [], return: 'uint32' },
  })
}

/**
 * Calls into the kernel. Its memory is flat: no buffer holds an address, and each is a page outside of the
 * JavaScript heap.
 */
class KernelSender implements FileSender {
  readonly #library: Functions
  readonly #offset = new BigInt64Array(PAGE_BYTES / 8)
  readonly #offsetBytes = new Uint8Array(this.#offset.buffer)
  /** `struct cachestat_range`: offset and length. */
  readonly #range = new BigInt64Array(PAGE_BYTES / 8)
  readonly #rangeBytes = new Uint8Array(this.#range.buffer)
  /** `struct cachestat`: the first number counts the pages in memory. */
  readonly #counts = new BigInt64Array(PAGE_BYTES / 8)
  readonly #countsBytes = new Uint8Array(this.#counts.buffer)
  /** One byte for each page; its lowest bit is set if the page is in memory. */
  readonly #residents = new Uint8Array(PAGE_BYTES)
  readonly #pageBytes: number
  readonly #user: number
  #hasCachestat: boolean

  constructor(library: Functions, hasCachestat: boolean) {
    this.#library = library
    this.#hasCachestat = hasCachestat
    this.#pageBytes = library.functions.getpagesize()
    this.#user = library.functions.geteuid()
  }

  /** A socket that is encrypted in this process has a descriptor too, but takes only encrypted bytes. */
  socketOf(socket: Socket | null): number | undefined {
    if (socket === null || socket.destroyed || 'encrypted' in socket) return undefined
    const handle = (socket as { readonly _handle?: SocketHandle | null })._handle
    if (handle === undefined || handle === null || handle.constructor.name !== 'TCP') return undefined
    const isIdle = socket.writableLength === 0 && handle.writeQueueSize === 0
    return isIdle && handle.fd >= 0 ? handle.fd : undefined
  }

  send(socket: number, { fd, offset, length }: FileSpan): number {
    this.#offset[0] = BigInt(offset)
    const sent = this.#library.functions.sendfile(socket, fd, this.#offsetBytes, BigInt(length))
    return Math.max(0, Number(sent))
  }

  isInMemory(span: FileSpan): boolean {
    const pages = pagesOf(span, this.#pageBytes)
    if (!this.#hasCachestat) return this.#areMapped(span, pages)
    return (this.#countPages(span) ?? 0) >= pages
  }

  /** Finds out, by any open file, which way there is to learn what is in memory. */
  probe(fd: number): void {
    if (this.#countPages({ fd, offset: 0, length: 1 }) === undefined) this.#hasCachestat = false
  }

  /** By cachestat(2); `undefined` before Linux 6.5, or if a sandbox forbids it. */
  #countPages({ fd, offset, length }: FileSpan): number | undefined {
    this.#range[0] = BigInt(offset)
    this.#range[1] = BigInt(length)
    const { syscall } = this.#library.functions
    const failure = syscall(CACHESTAT, BigInt(fd), this.#rangeBytes, this.#countsBytes, 0n)
    return failure === 0n ? Number(this.#counts[0]) : undefined
  }

  /**
   * By mincore(2), which tells the truth only to the owner of a file. Maps the pages without touching them,
   * so a file that is truncated meanwhile does no harm.
   */
  #areMapped({ fd, offset }: FileSpan, pages: number): boolean {
    if (pages > PAGE_BYTES || fstatSync(fd).uid !== this.#user) return false
    const { mmap, mincore, munmap } = this.#library.functions
    const start = BigInt(offset - (offset % this.#pageBytes))
    const length = BigInt(pages * this.#pageBytes)
    const address = mmap(0n, length, PROT_READ, MAP_SHARED, fd, start)
    if (address === -1n) return false
    const isKnown = mincore(address, length, this.#residents) === 0
    munmap(address, length)
    return isKnown && this.#residents.subarray(0, pages).every(page => (page & 1) === 1)
  }
}

const PROT_READ = 1
const MAP_SHARED = 1

function pagesOf({ offset, length }: FileSpan, pageBytes: number): number {
  return Math.floor((offset + length - 1) / pageBytes) - Math.floor(offset / pageBytes) + 1
}

/** Node's own handle of a connection. */
interface SocketHandle {
  readonly fd: number
  readonly writeQueueSize: number
}

/** Sends a part of this file over a connection to ourselves, and compares what arrives. */
async function passesSelfTest(sender: KernelSender): Promise<boolean> {
  const path = fileURLToPath(import.meta.url)
  const expected = readFileSync(path).subarray(TEST_OFFSET)
  const fd = openSync(path, 'r')
  const server = createServer()
  try {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    if (address === null || typeof address === 'string') return false
    const arrival = once(server, 'connection')
    using client = disposable(connect(address.port, '127.0.0.1'))
    const [accepted] = (await arrival) as [Socket]
    using near = disposable(accepted)
    const span = { fd, offset: TEST_OFFSET, length: expected.byteLength }
    sender.probe(fd)
    const socket = sender.socketOf(near.socket)
    if (socket === undefined || sender.send(socket, span) !== expected.byteLength) return false
    near.socket.end()
    const received: Buffer[] = []
    for await (const piece of client.socket) received.push(piece as Buffer)
    return Buffer.concat(received).equals(expected)
  } finally {
    server.close()
    closeSync(fd)
  }
}

const TEST_OFFSET = 17

function disposable(socket: Socket): { readonly socket: Socket } & Disposable {
  socket.on('error', () => undefined)
  return { socket, [Symbol.dispose]: () => socket.destroy() }
}
