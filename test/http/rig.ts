import type { TestContext } from 'node:test'
import type { ReadingLimits } from '../../src/http/reader-watch.ts'
import type { Reply } from '../../src/http/reply.ts'
import { breakOff, READING_LIMITS, send } from '../../src/http/send.ts'
import { type Handler, HttpServer, SERVER_LIMITS, type ServerLimits } from '../../src/http/server.ts'
import type { ListenerTls } from '../../src/http/tls/listener-tls.ts'
import type { ByteRange, Content } from '../../src/oci/content.ts'
import { digestOf } from '../../src/oci/digest.ts'

/** Listens on a free port of loopback until the test has ended; the address is `host:port`. */
export async function serve(
  t: TestContext,
  handler: Handler,
  limits: Partial<ServerLimits> = {},
  tls?: ListenerTls,
): Promise<{ readonly address: string; readonly server: HttpServer }> {
  const server = new HttpServer(handler, { ...SERVER_LIMITS, ...limits }, undefined, tls)
  const address = await server.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 })
  t.after(async () => {
    const closed = server.close()
    server.destroy()
    await closed
  })
  return { address, server }
}

/** What became of one reply. */
export interface Sent {
  readonly sentBytes: number | undefined
  readonly error: unknown
}

/** A handler that sends one reply to everybody, as the dispatcher would, and tells how it went. */
export function sender(
  reply: () => Reply,
  limits: ReadingLimits = READING_LIMITS,
): { readonly handler: Handler; readonly sent: Promise<Sent> } {
  const { promise, resolve } = Promise.withResolvers<Sent>()
  const handler: Handler = async (_request, response) => {
    const left = new AbortController()
    response.strictContentLength = true
    response.once('close', () => {
      if (!response.writableFinished) left.abort(new Error('the client left'))
    })
    try {
      resolve({ sentBytes: await send(response, reply(), limits, left.signal), error: undefined })
    } catch (error) {
      if (!left.signal.aborted) breakOff(response)
      resolve({ sentBytes: undefined, error })
    }
  }
  return { handler, sent: promise }
}

/** A content that is read from a function, and counts its disposals. */
export interface CountedContent extends Content {
  readonly disposals: () => number
  readonly disposed: Promise<void>
}

/** Makes a content of what `read` yields. */
export function contentOf(
  sizeBytes: number | undefined,
  read: (range: ByteRange, signal: AbortSignal) => AsyncIterable<Uint8Array>,
): CountedContent {
  let disposals = 0
  const { promise, resolve } = Promise.withResolvers<void>()
  return {
    digest: digestOf(Buffer.from('content')),
    mediaType: 'application/octet-stream',
    sizeBytes,
    read,
    disposals: () => disposals,
    disposed: promise,
    [Symbol.asyncDispose]: async () => {
      disposals += 1
      resolve()
      await Promise.resolve()
    },
  }
}

/** The reply that sends a whole content. */
export function replyOf(
  content: Content,
  range: ByteRange = { start: 0, end: content.sizeBytes ?? Infinity },
): Reply {
  const length: Record<string, string> =
    content.sizeBytes === undefined
      ? {}
      : { 'Content-Length': String(Math.min(range.end, content.sizeBytes) - range.start) }
  return { status: 200, headers: length, body: { kind: 'content', content, range }, outcome: 'miss' }
}
