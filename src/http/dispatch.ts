import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Peer } from '../access/peer.ts'
import type { Answering, Asked, ContentAnswering } from '../content/answering.ts'
import type { Hosting } from '../content/hosting.ts'
import type { Ledger } from '../content/ledger.ts'
import { SharedCount } from '../lib/shared-count.ts'
import type { RecentPulls } from '../observe/recent-pulls.ts'
import type { Outcome } from '../oci/content.ts'
import { OciError } from '../oci/error.ts'
import { ANONYMOUS, type Identity } from '../oci/identity.ts'
import { type NameRules, type Place, resolvePlace } from '../oci/place.ts'
import { requireAdmissible, wantsFresh } from './admit.ts'
import { auditedChange } from './audited-change.ts'
import { challengeOf } from './challenge.ts'
import { type ClientLimits, limitClient } from './client-limits.ts'
import { beforeDeadline } from './deadline.ts'
import { HttpExchange, referenceOf } from './exchange.ts'
import { failureBody, failureOf, failureReply } from './failure.ts'
import type { FileSender } from './file-sender.ts'
import { permittedDigest } from './permission.ts'
import type { ReadingLimits } from './reader-watch.ts'
import { RememberedAnswers, type RememberedAnswersParts } from './remembered/answers.ts'
import { type RequestTarget, RequestTargets } from './remembered/targets.ts'
import { API_VERSION, jsonReply, namedHeaders, type Reply, withHeaders } from './reply.ts'
import { type PlainParts, plainReply } from './resources/plain.ts'
import { answerLive, answerReady, type Readiness } from './resources/probes.ts'
import { answerPull } from './resources/pulls.ts'
import { answerPush } from './resources/pushes.ts'
import {
  isPush,
  type NamedRoute,
  type PullRoute,
  type PushRoute,
  parseRoute,
  type Route,
  rightOf,
} from './route.ts'
import { breakOff, READING_LIMITS, type SendingLimits, send, sendAtOnce } from './send.ts'
import { SendQueues } from './send-queue.ts'
import { answerSetup } from './setup/answer.ts'
import { Peers, requireTrusted } from './tls/peer.ts'

/** Longest time before our first header, in milliseconds. containerd gives up at 30 s. */
const FIRST_HEADER_MS = 25_000

export interface DispatchParts extends PlainParts {
  /** A further thread answers only content; the first thread answers the rest. */
  readonly answering: Answering | ContentAnswering
  /** URL of the token endpoint, if the configuration names it. */
  readonly realm?: () => string | undefined
  /** Takes what is pushed. If left out, nothing is. */
  readonly hosting?: Hosting
  readonly readiness: Readiness
  /** Name of this process in `CDN-Loop`. */
  readonly instance: string
  readonly firstHeaderMs?: number
  readonly readingLimits?: ReadingLimits
  /** Sends files inside the kernel, where that works. */
  readonly sender?: FileSender | undefined
  /** If left out, clients are not limited. */
  readonly clientLimits?: ClientLimits | undefined
  /** Notes every answer about content. */
  readonly ledger?: Pick<Ledger, 'used'>
  readonly recentPulls?: Pick<RecentPulls, 'note' | 'again'>
  /** Count of running requests, shared by all threads. */
  readonly running?: SharedCount
  /** Serve scripts that point clients at this mirror. */
  readonly servesSetup?: boolean
  /** If left out, no answer is remembered. */
  readonly remembering?: RememberedAnswersParts
}

/**
 * Takes a request to its response in one pipeline: admit, route, place, access, then a remembered answer or a
 * new one, send, note. Errors become responses only here, and only here is the access log written.
 */
export class Dispatch {
  readonly #parts: DispatchParts
  readonly #reading: SendingLimits
  readonly #targets = new RequestTargets()
  readonly #peers = new Peers()
  readonly #remembered: RememberedAnswers | undefined
  readonly #running: SharedCount
  /** Count of running requests of this dispatch alone. */
  #own = 0
  #settled: PromiseWithResolvers<void> | undefined

  constructor(parts: DispatchParts) {
    const { readingLimits = READING_LIMITS, running = new SharedCount(), remembering } = parts
    this.#parts = parts
    this.#reading = { queues: new SendQueues(), sender: parts.sender, ...readingLimits }
    this.#running = running
    this.#remembered = remembering === undefined ? undefined : new RememberedAnswers(remembering)
  }

  /** Count of running requests. */
  get running(): number {
    return this.#running.value
  }

  /** Answers one request; never rejects. `peer` is its client if that is not the connection's other side. */
  async handle(
    request: IncomingMessage,
    response: ServerResponse,
    peer: Peer = this.#peers.of(request.socket),
  ): Promise<void> {
    const exchange = new HttpExchange(request, response, peer)
    this.#running.add(1)
    this.#own += 1
    this.#parts.events.requestStarted()
    try {
      const reply = this.#reply(exchange)
      // A remembered answer is sent in the same turn as the request arrived, without awaiting anything.
      exchange.reply =
        reply instanceof Promise
          ? await beforeDeadline(reply, exchange, this.#parts.firstHeaderMs ?? FIRST_HEADER_MS)
          : reply
      exchange.status = exchange.reply.status
      exchange.sentBytes =
        sendAtOnce(response, exchange.reply, this.#reading) ??
        (await send(response, exchange.reply, this.#reading, exchange.left))
    } catch (error) {
      if (!response.headersSent) await exchange.dropBody()
      this.#fail(exchange, error)
    } finally {
      exchange.endDownload?.()
      this.#running.add(-1)
      this.#note(exchange)
      this.#own -= 1
      if (this.#own === 0) this.#settled?.resolve()
    }
  }

  /** Resolves when all requests that are running now are answered and noted. */
  async settled(): Promise<void> {
    if (this.#own === 0) return
    this.#settled ??= Promise.withResolvers<void>()
    await this.#settled.promise
    this.#settled = undefined
  }

  /** Admits and routes the request, and answers it. */
  #reply(exchange: HttpExchange): Reply | Promise<Reply> {
    const { request } = exchange
    const trail = requireAdmissible(request, this.#parts.instance)
    const { route, place } = this.#locate(exchange)
    if (route.kind === 'live' || route.kind === 'ready') return this.#probeReply(route.kind)
    requireTrusted(exchange.peer)
    if (this.#parts.readiness.isDraining()) throw shuttingDown()
    const named = place === undefined || !('name' in route) ? undefined : { ...place, trail }
    // The token endpoint and the catalogue cost the most of all requests without a name.
    if (route.kind === 'token') limitClient(this.#parts, exchange, route)
    const answer = (identity: Identity): Reply | Promise<Reply> => {
      exchange.identity = identity
      if (route.kind === 'catalog') limitClient(this.#parts, exchange, route)
      return named === undefined || !('name' in route)
        ? this.#plainReply(exchange, route)
        : this.#permitted(exchange, route, named)
    }
    if (named === undefined && route.kind !== 'base' && route.kind !== 'catalog')
      return this.#plainReply(exchange, route)
    const { authorization } = request.headers
    const identity = this.#parts.access.identify({ authorization, peer: exchange.peer })
    return identity instanceof Promise ? identity.then(answer) : answer(identity)
  }

  /** The reply to a request for content, if the rules allow it to its sender. */
  #permitted(
    exchange: HttpExchange,
    route: NamedRoute,
    place: Place & Pick<Asked, 'trail'>,
  ): Reply | Promise<Reply> {
    const { access } = this.#parts
    const { request, client, identity = ANONYMOUS } = exchange
    limitClient(this.#parts, exchange, route)
    const asking = { place, right: rightOf(route), reference: referenceOf(route), identity, client }
    const answer = (): Reply | Promise<Reply> => {
      const reply = this.#remembered?.find(request)
      if (reply !== undefined) return permittedDigest(access, asking, reply)
      const asked: Asked = {
        ...place,
        client,
        wantsFresh: wantsFresh(request.headers),
        actor: identity.name,
        mayPush: access.may(identity, place, 'push'),
      }
      if (isPush(route))
        return this.#pushed(exchange, route, asked).then(made =>
          auditedChange(this.#parts, asking, route, made),
        )
      return this.#newReply(exchange, route, asked).then(made => permittedDigest(access, asking, made))
    }
    // To push to a name that is not hosted is no question of rights.
    if (isPush(route)) this.#requireHosting().requireHosted(place)
    const waiting = access.authorize(asking)
    return waiting === undefined ? answer() : waiting.then(answer)
  }

  async #pushed(exchange: HttpExchange, route: PushRoute, asked: Asked): Promise<Reply> {
    const { access, names } = this.#parts
    const { identity = ANONYMOUS } = exchange
    const push = {
      hosting: this.#requireHosting(),
      asked,
      names: names(),
      mayPull: (place: Place) => access.may(identity, place, 'pull'),
    }
    return withHeaders(await answerPush(push, route, exchange), namedHeaders(route, asked))
  }

  #requireHosting(): Hosting {
    const { hosting } = this.#parts
    if (hosting === undefined) throw new OciError('UNSUPPORTED', 'nothing is hosted here')
    return hosting
  }

  /** Parses the request target, or recalls the result for the same text. */
  #locate(exchange: HttpExchange): RequestTarget {
    const { method = '', url = '' } = exchange.request
    const names = this.#parts.names()
    const isReading = method === 'GET' || method === 'HEAD'
    const known = isReading ? this.#targets.find(url, names) : undefined
    exchange.route = known?.route ?? parseRoute(method, url)
    exchange.place = known?.place ?? placeOf(exchange.route, names)
    const target = known ?? { route: exchange.route, place: exchange.place }
    if (known === undefined && isReading) this.#targets.keep(url, names, target)
    return target
  }

  #probeReply(kind: 'live' | 'ready'): Reply | Promise<Reply> {
    if (kind === 'live') return withHeaders(answerLive(), this.#closing())
    return answerReady(this.#parts.readiness).then(reply => withHeaders(reply, this.#closing()))
  }

  /** The reply to a request that names no repository. */
  #plainReply(exchange: HttpExchange, route: Route): Reply | Promise<Reply> {
    const reply = plainReply(this.#parts, exchange, route)
    if (reply !== undefined) return reply
    const { request, peer } = exchange
    const asked = { host: request.headers.host, isEncrypted: peer.isEncrypted }
    const isSetup = route.kind === 'setup' && this.#parts.servesSetup === true
    const script = isSetup ? answerSetup(route.client, asked) : undefined
    if (script !== undefined) return script
    return withHeaders(
      jsonReply(404, failureBody({ code: 'UNSUPPORTED', message: 'there is nothing here' })),
      API_VERSION,
    )
  }

  /** The reply to a request for content. It is remembered if it may be given again. */
  async #newReply(exchange: HttpExchange, route: PullRoute, asked: Asked): Promise<Reply> {
    const { request } = exchange
    const askedAtMs = this.#remembered?.nowMs ?? 0
    const answer = await answerPull(this.#parts.answering, asked, route, request)
    const reply = withHeaders(answer, namedHeaders(route, asked))
    if (isContent(route)) this.#remembered?.keep(request, reply, { place: asked, askedAtMs })
    return reply
  }

  #fail(exchange: HttpExchange, error: unknown): void {
    const { response, route, place } = exchange
    exchange.error = exchange.hasLeft && error === exchange.left.reason ? undefined : error
    if (exchange.hasLeft || response.destroyed) return
    if (response.headersSent) {
      breakOff(response)
      return
    }
    const named = route !== undefined && 'name' in route && place !== undefined
    const failure = failureOf(error)
    const reply = failureReply(failure, {
      'X-Request-Id': exchange.id,
      ...(failure.status === 401 ? { 'WWW-Authenticate': challengeOf(exchange, this.#parts.realm?.()) } : {}),
      ...(named ? namedHeaders(route, place) : API_VERSION),
      ...this.#closing(),
      // What is left of a body cannot be told from the next request.
      ...(exchange.request.complete ? {} : { Connection: 'close' }),
    })
    exchange.status = reply.status
    sendAtOnce(response, reply, this.#reading)
  }

  #closing(): Readonly<Record<string, string>> {
    return this.#parts.readiness.isDraining() ? { Connection: 'close' } : {}
  }

  #note(exchange: HttpExchange): void {
    const { events, ledger, recentPulls } = this.#parts
    const { route, place, reply, status, sentBytes, error } = exchange
    events.requestFinished(exchange.entry())
    if (place === undefined || route === undefined || !isContent(route)) return
    const outcome = reply?.outcome
    const hits = outcome !== undefined && FROM_CACHE.has(outcome) ? 1 : 0
    if (reply?.digest !== undefined && outcome !== undefined)
      ledger?.used(reply.digest, { hits, servedBytes: sentBytes })
    if (route.kind !== 'manifest') return
    if (reply?.isNoted === true) recentPulls?.again(place, route.reference)
    else recentPulls?.note(place, route.reference, { outcome, status, error, hits, client: exchange.client })
  }
}

/** Outcomes served from the cache. */
const FROM_CACHE: ReadonlySet<Outcome> = new Set<Outcome>(['hit', 'revalidated', 'stale'])

function placeOf(route: Route, names: NameRules): Place | undefined {
  return 'name' in route ? resolvePlace(names, route.name) : undefined
}

function isContent(route: Route): route is ContentRoute {
  return route.kind === 'manifest' || route.kind === 'blob'
}

type ContentRoute = Extract<NamedRoute, { readonly kind: 'manifest' | 'blob' }>

function shuttingDown(): OciError {
  return new OciError('UNAVAILABLE', 'the mirror is shutting down')
}
