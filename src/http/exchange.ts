import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Peer } from '../access/peer.ts'
import type { FinishedRequest } from '../observe/event.ts'
import { ANONYMOUS, type Identity } from '../oci/identity.ts'
import type { Place } from '../oci/place.ts'
import { type Reference, referenceText } from '../oci/reference.ts'
import type { Reply } from './reply.ts'
import { bodyOf, dropRest, type RequestBody } from './request-body.ts'
import type { NamedRoute, Route } from './route.ts'

/** One request in progress: what is known of it so far, and its entry in the access log. */
export class HttpExchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly peer: Peer
  route: Route | undefined
  place: Place | undefined
  /** The sender, once its credentials are checked. */
  identity: Identity | undefined
  /** Ends the count of a download for its client. */
  endDownload: (() => void) | undefined
  #reply: Reply | undefined
  status = 0
  sentBytes = 0
  error: unknown
  readonly #startedAtMs = performance.now()
  #answeredAtMs: number | undefined
  #id: string | undefined
  #left: AbortController | undefined
  #body: RequestBody | undefined

  constructor(request: IncomingMessage, response: ServerResponse, peer: Peer) {
    this.request = request
    this.response = response
    this.peer = peer
  }

  /** The id that the client or a proxy before us has given, or else a new one. */
  get id(): string {
    this.#id ??= givenId(this.request) ?? newId()
    return this.#id
  }

  /** Address of the client; `undefined` for a client on a unix socket. */
  get client(): string | undefined {
    return this.peer.address
  }

  /** The body of the request. */
  get body(): RequestBody {
    this.#body ??= bodyOf(this.request, this.response)
    return this.#body
  }

  /**
   * Gets rid of what nobody has read of the body: a client that is still sending when its connection is
   * closed may never see the answer.
   */
  async dropBody(): Promise<void> {
    const { method, complete } = this.request
    if (complete || method === 'GET' || method === 'HEAD' || this.response.destroyed) return
    await dropRest(this.body)
  }

  /**
   * Aborts if the client leaves before the response is written. It is created on first use, because an answer
   * sent at once never needs it. The first use must be in the same turn as the request arrived.
   */
  get left(): AbortSignal {
    if (this.#left === undefined) {
      const left = new AbortController()
      this.#left = left
      this.response.once('close', () => {
        if (!this.response.writableFinished) left.abort(new Error('the client left'))
      })
    }
    return this.#left.signal
  }

  get hasLeft(): boolean {
    return this.#left?.signal.aborted === true
  }

  get reply(): Reply | undefined {
    return this.#reply
  }

  /** The response begins once its reply is known. */
  set reply(reply: Reply | undefined) {
    this.#reply = reply
    this.#answeredAtMs = performance.now()
  }

  /** The current entry for the access log. */
  entry(): FinishedRequest {
    const { request, response, route, place } = this
    return {
      id: this.id,
      method: knownMethod(request.method),
      resource: route?.kind ?? 'unknown',
      status: this.status,
      outcome: this.reply?.outcome,
      namespace: place?.namespace,
      repository: place?.repository,
      reference: this.#reference(),
      client: this.client,
      identity: (this.identity ?? ANONYMOUS).name,
      userAgent: request.headers['user-agent'],
      sentBytes: this.sentBytes,
      durationMs: performance.now() - this.#startedAtMs,
      firstByteMs: this.#answeredAtMs === undefined ? undefined : this.#answeredAtMs - this.#startedAtMs,
      error: this.error,
      // A write may fail before the closing of its connection is reported.
      isAborted: this.hasLeft || (response.headersSent && !response.writableEnded),
    }
  }

  #reference(): string | undefined {
    const reference = this.route !== undefined && 'name' in this.route ? referenceOf(this.route) : undefined
    return reference === undefined ? undefined : referenceText(reference)
  }
}

const GIVEN_ID = /^[\w.:/+=-]{1,64}$/

function givenId({ headers }: IncomingMessage): string | undefined {
  const given = headers['x-request-id']
  return typeof given === 'string' && GIVEN_ID.test(given) ? given : undefined
}

/** Ten characters, enough to find one line in a day's log. */
function newId(): string {
  return Math.random().toString(36).slice(2, 12).padEnd(10, '0')
}

/** Methods are metric labels, so they are a closed set. */
function knownMethod(method: string | undefined): string {
  return METHODS.has(method ?? '') ? (method ?? '') : 'other'
}

const METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PATCH', 'PUT', 'DELETE'])

/** The tag or digest that a route names. */
export function referenceOf(route: NamedRoute): Reference | undefined {
  switch (route.kind) {
    case 'manifest':
    case 'push-manifest':
    case 'delete-manifest':
      return route.reference
    case 'blob':
    case 'delete-blob':
    case 'referrers':
      return { kind: 'digest', digest: route.digest }
    case 'tags':
    case 'begin-upload':
    case 'upload-state':
    case 'append-upload':
    case 'finish-upload':
    case 'cancel-upload':
      return undefined
  }
}
