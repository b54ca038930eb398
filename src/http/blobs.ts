import type { IncomingMessage } from 'node:http'
import type { Mirror } from '../mirror/mirror.ts'
import type { Source } from '../mirror/sources.ts'
import type { Digest } from '../oci/digest.ts'
import { contentReply, headReply } from './content-reply.ts'
import type { Reply } from './reply.ts'

/** `GET|HEAD /v2/<name>/blobs/<digest>`. */
export async function answerBlob(
  mirror: Mirror,
  source: Source,
  digest: Digest,
  request: IncomingMessage,
): Promise<Reply> {
  if (request.method === 'HEAD') return headReply(await mirror.headBlob(source, digest))
  return await contentReply(await mirror.pullBlob(source, digest), request.headers)
}
