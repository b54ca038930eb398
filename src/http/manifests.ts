import type { IncomingMessage } from 'node:http'
import type { Mirror } from '../mirror/mirror.ts'
import type { Source } from '../mirror/sources.ts'
import type { Reference } from '../oci/reference.ts'
import { contentReply, headReply } from './content-reply.ts'
import type { Reply } from './reply.ts'

/** `GET|HEAD /v2/<name>/manifests/<reference>`. */
export async function answerManifest(
  mirror: Mirror,
  source: Source,
  reference: Reference,
  request: IncomingMessage,
): Promise<Reply> {
  if (request.method === 'HEAD') return headReply(await mirror.headManifest(source, reference))
  // A range of a manifest is of no use to anybody.
  const { range: _, ...headers } = request.headers
  return await contentReply(await mirror.pullManifest(source, reference), headers)
}
