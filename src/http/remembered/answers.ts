import type { IncomingMessage } from 'node:http'
import { LRUCache } from 'lru-cache'
import type { Epoch, EpochView } from '../../content/epoch.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Place } from '../../oci/place.ts'
import type { Body, Reply } from '../reply.ts'
import { joinedBody } from '../send.ts'

const TOTAL_BYTES = 24 * 1024 * 1024
/** Largest body to remember. Its bytes are those that the mirror has in memory anyway. */
const BODY_BYTES_MAX = 256 * 1024
/** Memory of an entry besides its body, in bytes. */
const ENTRY_BYTES = 2048
/** Shortest time between two calls of `again` for one answer, in milliseconds. */
const AGAIN_EVERY_MS = 1000

interface Entry {
  readonly reply: Reply
  /** The same reply, for requests between two notes. */
  readonly notedReply: Reply
  readonly sizeBytes: number
  readonly epoch: EpochView
  readonly untilMs: number
  readonly again: (() => void) | undefined
  againAtMs: number
}

interface KeptTerms {
  readonly place: Place
  readonly askedAtMs: number
}

export interface RememberedAnswersParts {
  readonly epoch: Pick<Epoch, 'now' | 'view' | 'isSame'>
  readonly clock: Pick<Clock, 'monotonicMs'>
}

/**
 * Replies to requests for manifests and small blobs, by the text of the request target. A reply is given
 * again while its tag is fresh, and until something happens to its repository, its digest or its namespace.
 */
export class RememberedAnswers {
  readonly #parts: RememberedAnswersParts
  readonly #entries = new LRUCache<string, Entry>({
    maxSize: TOTAL_BYTES,
    sizeCalculation: ({ sizeBytes }, key) => ENTRY_BYTES + key.length + sizeBytes,
  })

  constructor(parts: RememberedAnswersParts) {
    this.#parts = parts
  }

  /** The clock by which answers age. */
  get nowMs(): number {
    return this.#parts.clock.monotonicMs()
  }

  /** The remembered reply to this request; `undefined` if there is none. */
  find(request: IncomingMessage): Reply | undefined {
    const key = keyOf(request)
    const entry = this.#entries.get(key)
    if (entry === undefined || isConditional(request.rawHeaders)) return undefined
    const { nowMs } = this
    if (!this.#parts.epoch.isSame(entry.epoch) || entry.untilMs <= nowMs) {
      this.#entries.delete(key)
      return undefined
    }
    if (nowMs - entry.againAtMs < AGAIN_EVERY_MS) return entry.notedReply
    entry.againAtMs = nowMs
    entry.again?.()
    return entry.reply
  }

  /** Remembers a reply that may be given again; its age counts from `askedAtMs`. Ignores any other reply. */
  keep(request: IncomingMessage, reply: Reply, { place, askedAtMs }: KeptTerms): void {
    const { repeatable, digest } = reply
    if (repeatable === undefined || digest === undefined || reply.status !== 200) return
    if (repeatable.epoch !== this.#parts.epoch.now || isConditional(request.rawHeaders)) return
    const body = request.method === 'HEAD' ? ({ kind: 'none' } as const) : bodyOf(reply)
    if (body === undefined) return
    const fields = Object.entries(reply.headers).flat()
    const remembered = { ...reply, body, fields, repeatable: undefined }
    this.#entries.set(keyOf(request), {
      reply: remembered,
      notedReply: { ...remembered, isNoted: true as const },
      sizeBytes: sizeOf(body),
      epoch: this.#parts.epoch.view(place, digest),
      untilMs: askedAtMs + repeatable.forMs,
      again: repeatable.again,
      againAtMs: askedAtMs,
    })
  }
}

function keyOf({ method, url = '' }: IncomingMessage): string {
  return method === 'GET' ? url : `${method} ${url}`
}

/** True if a header field may change the answer: a condition, a range or a request for a fresh answer. */
function isConditional(rawHeaders: readonly string[]): boolean {
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] ?? ''
    const isCandidate =
      name.length === 5 || name.length === 13 || name.startsWith('i') || name.startsWith('I')
    if (isCandidate && CONDITIONAL.test(name)) return true
  }
  return false
}

const CONDITIONAL = /^(?:range|cache-control|if-.*)$/i

function bodyOf({ body }: Reply): Body | undefined {
  return body.kind === 'bytes' && body.bytes.byteLength <= BODY_BYTES_MAX ? joinedBody(body.bytes) : undefined
}

function sizeOf(body: Body): number {
  if (body.kind === 'text') return body.text.length
  return body.kind === 'bytes' ? body.bytes.byteLength : 0
}
