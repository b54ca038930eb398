import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Mirror } from '../mirror/mirror.ts'
import { type Directory, resolveSource } from '../mirror/sources.ts'
import { OciError } from '../oci/error.ts'
import { failureBody, failureOf } from './failure.ts'
import { parseRoute } from './route.ts'

/** What the admin listener works with. */
export interface AdminParts {
  readonly mirror: Mirror
  readonly directory: () => Directory
  /** The exposition text of all metrics. */
  renderMetrics(): Promise<{ readonly contentType: string; readonly text: string }>
  /** The clients that pulled last, as JSON can say them. */
  recentClients(): readonly object[]
}

interface AdminAnswer {
  readonly status: number
  readonly contentType: string
  readonly text: string
}

const ADMIN = '/_admin/'

/** Answers one request of the admin listener: `GET /metrics`, and `DELETE /_admin/<name>/manifests|blobs/<reference>`. Never rejects. */
export async function handleAdmin(
  parts: AdminParts,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  let answer: AdminAnswer
  try {
    answer = await answerAdmin(parts, request.method ?? '', request.url ?? '')
  } catch (error) {
    const failure = failureOf(error)
    answer = { status: failure.status, contentType: 'application/json', text: failureBody(failure) }
  }
  response.writeHead(answer.status, {
    'Content-Type': answer.contentType,
    'Content-Length': Buffer.byteLength(answer.text),
  })
  response.end(request.method === 'HEAD' ? undefined : answer.text)
}

async function answerAdmin(parts: AdminParts, method: string, target: string): Promise<AdminAnswer> {
  if ((method === 'GET' || method === 'HEAD') && target === '/metrics')
    return { status: 200, ...(await parts.renderMetrics()) }
  if ((method === 'GET' || method === 'HEAD') && target === '/livez')
    return { status: 200, contentType: 'application/json', text: '{"status":"ok"}' }
  if ((method === 'GET' || method === 'HEAD') && target === '/_admin/v1/clients')
    return {
      status: 200,
      contentType: 'application/json',
      text: JSON.stringify({ clients: parts.recentClients() }),
    }
  if (method === 'DELETE' && target.startsWith(ADMIN)) return await forget(parts, target)
  throw new OciError(
    'UNSUPPORTED',
    'the admin listener has GET /metrics, GET /_admin/v1/clients and DELETE /_admin/<name>/manifests|blobs/<reference>',
  )
}

/** The rest of the path reads as one under `/v2/`, `ns` included. */
async function forget({ mirror, directory }: AdminParts, target: string): Promise<AdminAnswer> {
  const route = parseRoute('GET', `/v2/${target.slice(ADMIN.length)}`)
  if (route.kind !== 'manifest' && route.kind !== 'blob')
    throw new OciError('REQUEST_INVALID', 'name a manifest or a blob')
  const source = resolveSource(directory(), route.name)
  const wasThere =
    route.kind === 'blob'
      ? await mirror.forgetBlob(source, route.digest)
      : await mirror.forgetManifest(source, route.reference)
  if (!wasThere)
    throw new OciError(route.kind === 'blob' ? 'BLOB_UNKNOWN' : 'MANIFEST_UNKNOWN', 'it is not cached')
  return { status: 202, contentType: 'application/json', text: '{}' }
}
