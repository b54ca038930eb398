import type { IncomingMessage } from 'node:http'
import type { Answering, Asked, ContentAnswering } from '../../content/answering.ts'
import type { Reply } from '../reply.ts'
import type { PullRoute } from '../route.ts'
import { answerBlob } from './blobs.ts'
import { answerManifest } from './manifests.ts'
import { answerReferrers } from './referrers.ts'
import { answerTags } from './tags.ts'

/** Answers a request that reads a repository. */
export async function answerPull(
  answering: Answering | ContentAnswering,
  asked: Asked,
  route: PullRoute,
  request: IncomingMessage,
): Promise<Reply> {
  switch (route.kind) {
    case 'manifest':
      return await answerManifest(answering, asked, route.reference, request)
    case 'blob':
      return await answerBlob(answering, asked, route.digest, request)
    case 'tags':
      return await answerTags(requireListings(answering), asked, route)
    case 'referrers':
      return await answerReferrers(requireListings(answering), asked, route)
    default:
      return route satisfies never
  }
}

function requireListings(answering: Answering | ContentAnswering): Answering {
  if ('listTags' in answering) return answering
  throw new Error('this thread answers only requests for content')
}
