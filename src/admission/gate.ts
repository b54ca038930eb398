import type { IncomingMessage, ServerResponse } from 'node:http'
import { bodyOf, dropRest } from '../http/request-body.ts'
import type { Clock } from '../lib/clock.ts'
import { clip, type Log } from '../observe/log.ts'
import type { AdmissionMetrics } from './admission-metrics.ts'
import { judgeReview, type ReviewAnswer, reviewText } from './answer.ts'
import { type Bodies, BodyRefused } from './bodies.ts'
import type { ImageJudge } from './judge.ts'
import { parseReview, type Review, ReviewRefused } from './review.ts'
import { type Rewriting, rewriteReview } from './rewrite.ts'

export interface GateParts {
  /** Judges by the rules as they are now. */
  readonly judge: () => ImageJudge
  /** Left out where images are not rewritten. */
  readonly rewriting?: Rewriting | undefined
  readonly bodies: Bodies
  readonly metrics: AdmissionMetrics
  readonly log: Log
  readonly clock: Pick<Clock, 'monotonicMs'>
  /** False while the process stops: load balancers then send no more reviews. */
  readonly isReady: () => boolean
}

interface Answer {
  readonly status: number
  readonly contentType: string
  readonly text: string
}

type AnswerReview = (parts: GateParts, review: Review) => ReviewAnswer

const VALIDATE: AnswerReview = ({ judge }, review) => judgeReview(judge(), review)

function answererOf(path: string, { rewriting }: GateParts): AnswerReview | undefined {
  if (path === '/validate') return VALIDATE
  if (path !== '/mutate' || rewriting === undefined) return undefined
  return (_, review) => rewriteReview(rewriting, review)
}

const DENIED_SHOWN = 20

/** Answers one request to the gate: a review, a probe or the metrics. Never rejects. */
export async function handleGate(
  parts: GateParts,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { status, contentType, text } = await answer(parts, request).catch((error: unknown) =>
    failed(parts, error),
  )
  const isRead = await dropRest(bodyOf(request, response))
  if (response.destroyed) return
  const body = Buffer.from(text)
  response.writeHead(status, {
    'Content-Type': contentType,
    'Content-Length': body.length,
    'X-Content-Type-Options': 'nosniff',
    ...(isRead ? {} : { Connection: 'close' }),
  })
  response.end(request.method === 'HEAD' ? undefined : body)
}

async function answer(parts: GateParts, request: IncomingMessage): Promise<Answer> {
  const { method = '', url = '' } = request
  // The API server asks with `?timeout=10s`.
  const [path = ''] = url.split('?', 1)
  const answerReview = answererOf(path, parts)
  if (answerReview === undefined) return await answerProbe(parts, method, path)
  if (method !== 'POST') return plain(405, `${path} takes a POST with an AdmissionReview`)
  const body = await parts.bodies.read(request)
  const startMs = parts.clock.monotonicMs()
  const review = parseReview(body)
  const judgement = answerReview(parts, review)
  parts.metrics.reviews.inc({ path: path.slice(1), verdict: judgement.verdict })
  tell(parts.log, review, judgement)
  const text = reviewText(judgement.response)
  parts.metrics.seconds.observe((parts.clock.monotonicMs() - startMs) / 1000)
  return { status: 200, contentType: 'application/json', text }
}

async function answerProbe({ metrics, isReady }: GateParts, method: string, path: string): Promise<Answer> {
  const isReading = method === 'GET' || method === 'HEAD'
  if (isReading && path === '/livez') return plain(200, 'ok')
  if (isReading && path === '/readyz') return isReady() ? plain(200, 'ok') : plain(503, 'stopping')
  if (!isReading || path !== '/metrics')
    return plain(404, 'the gate has /validate, /livez, /readyz and /metrics')
  const { contentType, text } = await metrics.render()
  return { status: 200, contentType, text }
}

function plain(status: number, sentence: string): Answer {
  return { status, contentType: 'text/plain; charset=utf-8', text: `${sentence}\n` }
}

function failed({ log, metrics }: GateParts, error: unknown): Answer {
  const status = error instanceof ReviewRefused ? 400 : error instanceof BodyRefused ? error.status : 500
  metrics.refusedRequests.inc({ status })
  if (status === 500) log.error({ err: error }, 'a review could not be answered')
  else log.warn({ status, reason: (error as Error).message }, 'a request was no review')
  return plain(status, status === 500 ? 'internal error' : (error as Error).message)
}

function tell(log: Log, review: Review, { verdict, refused }: ReviewAnswer): void {
  const { uid, kind, namespace, name, user, operation } = review
  const fields = { verdict, operation, kind, namespace: clip(namespace), name: clip(name), user: clip(user) }
  if (refused.length === 0) {
    log.debug({ ...fields, uid }, 'review answered')
    return
  }
  const images = refused.slice(0, DENIED_SHOWN).map(({ image }) => clip(image))
  const rules = new Set(refused.map(({ by }) => (by.kind === 'rule' ? `deny ${by.rule.text}` : by.kind)))
  log.info(
    { ...fields, uid, images, by: [...rules].slice(0, DENIED_SHOWN), imageCount: refused.length },
    'images refused',
  )
}
