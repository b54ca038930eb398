import type { IncomingMessage, ServerResponse } from 'node:http'
import { requireAdmissible } from '../http/admit.ts'
import { failureOf, failureReply } from '../http/failure.ts'
import { jsonReply, type Reply, type SentContent } from '../http/reply.ts'
import { bodyOf, dropRest, type RequestBody } from '../http/request-body.ts'
import { parseRoute } from '../http/route.ts'
import { breakOff, READING_LIMITS, send } from '../http/send.ts'
import { resolveSource } from '../mirror/sources.ts'
import type { Events } from '../observe/events.ts'
import { OciError } from '../oci/error.ts'
import type { StreamFailure } from './contract.ts'
import { type AdminSender, type GuardOptions, identifyAdminSender, requireNoWebPage } from './guard.ts'
import type { AdminPage } from './page/admin-page.ts'
import type { AdminRoutesParts } from './parts.ts'
import { answerEndpoint, takesBody } from './routes.ts'

export interface AdminParts extends AdminRoutesParts, Pick<GuardOptions, 'isSocket'> {
  /** The token of administrators as it is now; see {@link GuardOptions}. */
  currentToken(): Promise<{ reveal(): string } | undefined>
  /** The text of all metrics in the exposition format. */
  renderMetrics(): Promise<{ readonly contentType: string; readonly text: string }>
  /** The name of this process in `CDN-Loop`. */
  readonly instance: string
  readonly events: Pick<Events, 'audited' | 'warned'>
  readonly page: Pick<AdminPage, 'isFor' | 'answer'>
}

const ADMIN = '/_admin/'
const V1 = '/_admin/v1/'
const METHODS = 'GET, HEAD, PUT, POST, DELETE'

/** Answers one request of the admin listener; `docs/admin.md` lists its endpoints. Never rejects. */
export async function handleAdmin(
  parts: AdminParts,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const left = new AbortController()
  response.once('close', () => {
    if (!response.writableFinished) left.abort(new Error('the client left'))
  })
  response.strictContentLength = true
  // The previous answer on this connection set a timeout, but an endpoint may take longer to begin.
  request.socket.setTimeout(0)
  const body = bodyOf(request, response)
  try {
    const reply = await answerAdmin(parts, request, { response, body, signal: left.signal })
    if (reply !== undefined) await send(response, reply, READING_LIMITS, left.signal)
  } catch (error) {
    if (left.signal.aborted) return
    // A client reads the answer only once it has sent its body.
    if (!(await dropRest(body))) response.shouldKeepAlive = false
    const failure = failureOf(error)
    if (failure.status === 500) parts.events.warned('administration failed', { err: error })
    if (response.headersSent) breakOff(response)
    else await send(response, adminFailure(error), READING_LIMITS, left.signal).catch(() => undefined)
  }
}

/** `undefined` if the response is taken over. */
async function answerAdmin(
  parts: AdminParts,
  request: IncomingMessage,
  {
    response,
    body,
    signal,
  }: { readonly response: ServerResponse; readonly body: RequestBody; readonly signal: AbortSignal },
): Promise<Reply | undefined> {
  const { method = '', url: target = '' } = request
  if (parts.page.isFor(target)) return await parts.page.answer(request, response)
  const isReading = method === 'GET' || method === 'HEAD'
  const [name = '', query = ''] = target.startsWith(V1) ? target.slice(V1.length).split('?', 2) : []
  const endpoint = `${isReading ? 'GET' : method} ${name}`
  // The connection can be reused only once the body is read.
  if (!takesBody(endpoint)) request.resume()
  requireAdmissible(request, parts.instance)
  if (isReading && target === '/livez') return plainReply('application/json', '{"status":"ok"}')
  // Monitoring needs no token: the metrics contain no names.
  if (isReading && target === '/metrics') {
    requireNoWebPage(request, await guardOptions(parts))
    const { contentType, text } = await parts.renderMetrics()
    return plainReply(contentType, text)
  }
  const asked = { ...parts, actor: await requireAudited(parts, request) }
  if (target.startsWith(V1)) {
    const result = await answerEndpoint(asked, endpoint, new URLSearchParams(query), { signal, body })
    if (result?.kind === 'value') return plainReply('application/json', JSON.stringify(result.value))
    if (result?.kind === 'stream') return await streamReply(parts, result.values)
  }
  if (method === 'DELETE' && target.startsWith(ADMIN)) return await forget(parts, target)
  throw new OciError('UNSUPPORTED', 'the admin listener has no such endpoint; docs/admin.md lists them')
}

async function guardOptions(parts: AdminParts): Promise<GuardOptions> {
  return { token: (await parts.currentToken())?.reveal(), isSocket: parts.isSocket }
}

/** Requires an administrator, and resolves to its name. Changes and refusals go to the audit log. */
async function requireAudited(parts: AdminParts, request: IncomingMessage): Promise<string> {
  const { method = '', url: target = '', socket } = request
  const what = `${method} ${target}`
  const from = socket.remoteAddress
  const options = { ...(await guardOptions(parts)), access: parts.access }
  const refuse = (refusal: unknown, { who, row }: Partial<AdminSender>): never => {
    const reason = refusal instanceof Error ? refusal.message : undefined
    parts.events.audited({ action: 'refused', who: who ?? 'anonymous', what, from, row, reason })
    throw refusal
  }
  const sender = await identifyAdminSender(request, options).catch((error: unknown) => refuse(error, {}))
  const { who, row, refusal } = sender
  if (refusal !== undefined) refuse(refusal, sender)
  if (method !== 'GET' && method !== 'HEAD') parts.events.audited({ action: 'admin', who, what, from, row })
  return who
}

function plainReply(contentType: string, text: string): Reply {
  return jsonReply(200, text, { 'Content-Type': contentType, 'X-Content-Type-Options': 'nosniff' })
}

function adminFailure(error: unknown): Reply {
  const failure = failureOf(error)
  return failureReply(failure, {
    'X-Content-Type-Options': 'nosniff',
    ...(failure.status === 401 ? { 'WWW-Authenticate': 'Bearer' } : {}),
    ...(failure.status === 405 ? { Allow: METHODS } : {}),
  })
}

/** The endpoint of oci-registry. The rest of the path is read as a path under `/v2/`, with `ns`. */
async function forget({ mirror, directory }: AdminParts, target: string): Promise<Reply> {
  const route = parseRoute('GET', `/v2/${target.slice(ADMIN.length)}`)
  if (route.kind !== 'manifest' && route.kind !== 'blob')
    throw new OciError('REQUEST_INVALID', 'the path must name a manifest or a blob')
  const source = resolveSource(directory(), route.name)
  const wasThere =
    route.kind === 'blob'
      ? await mirror.forgetBlob(source, route.digest)
      : await mirror.forgetManifest(source, route.reference)
  if (!wasThere)
    throw new OciError(route.kind === 'blob' ? 'BLOB_UNKNOWN' : 'MANIFEST_UNKNOWN', 'it is not cached')
  return jsonReply(202, '{}')
}

/**
 * A response of JSON lines. The first value is awaited, so that a refusal is still an error response. A later
 * failure is the last line.
 */
async function streamReply({ events }: AdminParts, values: AsyncIterable<object>): Promise<Reply> {
  const iterator = values[Symbol.asyncIterator]()
  const first = await iterator.next()
  return {
    status: 200,
    headers: { 'Content-Type': 'application/x-ndjson', 'X-Content-Type-Options': 'nosniff' },
    body: {
      kind: 'content',
      content: jsonLines(iterator, first, error => {
        if (failureOf(error).status === 500) events.warned('administration failed', { err: error })
      }),
      range: { start: 0, end: Infinity },
    },
    outcome: undefined,
  }
}

function jsonLines(
  iterator: AsyncIterator<object>,
  first: IteratorResult<object>,
  failed: (error: unknown) => void,
): SentContent {
  return {
    async *read(_range, signal) {
      try {
        for (let next = first; next.done !== true && !signal.aborted; next = await iterator.next())
          yield Buffer.from(`${JSON.stringify(next.value)}\n`)
      } catch (error) {
        failed(error)
        const { code, message } = failureOf(error)
        const line: StreamFailure = { event: 'error', code, message }
        yield Buffer.from(`${JSON.stringify(line)}\n`)
      }
    },
    [Symbol.asyncDispose]: async () => void (await iterator.return?.()),
  }
}
