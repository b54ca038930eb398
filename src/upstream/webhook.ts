import { readFileSync } from 'node:fs'
import type { Clock } from '../lib/clock.ts'
import { parseCidr } from '../lib/ip-address.ts'
import type { Namespace } from '../oci/namespace.ts'
import { headerOf, lengthOf, type UpstreamAnswer } from './answer.ts'
import { DIAL_TIMINGS, Dialer } from './dial/dialer.ts'
import { chooseProxy, DIRECT, type Egress } from './dial/egress.ts'
import { PUBLIC_TLS } from './dial/handshake.ts'
import { type Resolve, systemResolve } from './dial/resolve.ts'
import { resolveTarget, type Target } from './dial/target.ts'
import { retryAfterMs } from './manners/retry-after.ts'
import { IDLE_LIMITS, Transport } from './transport.ts'

/** An answer is read up to this size, so that its connection can be used again. */
const ANSWER_BYTES_MAX = 16 * 1024

/** Address and settings of a server that is sent requests of our own. */
export interface WebhookOptions {
  /** Name in error messages. */
  readonly name: string
  /** `http:` or `https:`. */
  readonly url: string
  readonly caFile: string | undefined
  /** CIDR blocks that it may be in although policy would refuse them. */
  readonly allowAddresses: readonly string[]
  /** Time from the start of a request to the end of its answer, in milliseconds. */
  readonly timeoutMs: number
  readonly instance: string
  readonly version: string
  readonly clock: Clock
  readonly resolve?: Resolve | undefined
  /** Proxies of the environment; none by default. */
  readonly egress?: Egress | undefined
}

/** Answer of a webhook. Its body is of no interest. */
export interface WebhookAnswer {
  readonly status: number
  readonly retryAfterMs: number | undefined
}

/**
 * Sends requests to one server, under the rules of the dialer for a configured host: a private address is
 * fine, a loopback, link-local or metadata one only if it is allowed. Redirects are not followed.
 */
export class Webhook implements AsyncDisposable {
  readonly #options: WebhookOptions
  readonly #target: Target
  readonly #transport: Transport

  /** Throws a `TypeError` if the URL or a block of addresses is invalid. */
  constructor(options: WebhookOptions) {
    const { url, clock, instance, version, timeoutMs, resolve = systemResolve } = options
    const target = parseWebhookUrl(url)
    if (target === undefined) throw new TypeError(`the URL of ${options.name} is invalid`)
    this.#options = options
    this.#target = target
    const allowed = options.allowAddresses.map(text => {
      const cidr = parseCidr(text)
      if (cidr === undefined) throw new TypeError(`allow_addresses of ${options.name} has no block: ${text}`)
      return cidr
    })
    const { caFile } = options
    const ca = caFile === undefined ? undefined : readFileSync(caFile, 'utf8')
    const { name } = options
    const dialer = new Dialer({
      terms: {
        kind: 'configured',
        // The namespace only names the server in refusals.
        namespace: name as Namespace,
        origin: target.origin,
        allowed,
        realms: [],
        entry: `- name: ${name}`,
      },
      tls: { ...PUBLIC_TLS, ca },
      resolve,
      timings: DIAL_TIMINGS,
      proxyFor: chooseProxy(undefined, options.egress ?? DIRECT),
    })
    const timings = { firstByteMs: timeoutMs, retryWithinMs: 0, retryPauseMs: 0 }
    const userAgent = `entrepot/${version}`
    this.#transport = new Transport({ dialer, clock, timings, idle: IDLE_LIMITS, userAgent, instance })
  }

  /** Sends one POST. Rejects with an `UpstreamError` or a refusal of the dialer if there is no answer. */
  async post(
    headers: Readonly<Record<string, string>>,
    body: string,
    signal: AbortSignal,
  ): Promise<WebhookAnswer> {
    const request = { method: 'POST', target: this.#target, headers, body } as const
    const answer = await this.#transport.send(request, signal)
    await this.#discard(answer)
    const wallMs = this.#options.clock.wallMs()
    return {
      status: answer.status,
      retryAfterMs: retryAfterMs(headerOf(answer.headers, 'retry-after'), wallMs),
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#transport[Symbol.asyncDispose]()
  }

  /** Reads a short body to its end; a long or slow one is cut. */
  async #discard({ body, headers }: UpstreamAnswer): Promise<void> {
    if ((lengthOf(headers) ?? 0) > ANSWER_BYTES_MAX) {
      body.destroy()
      return
    }
    const timer = setTimeout(() => body.destroy(), this.#options.timeoutMs)
    let restBytes = ANSWER_BYTES_MAX
    try {
      for await (const piece of body) {
        restBytes -= (piece as Uint8Array).byteLength
        if (restBytes < 0) break
      }
    } catch {
      // The status has arrived, and nothing else counts.
    } finally {
      clearTimeout(timer)
      body.destroy()
    }
  }
}

/** Reads an absolute URL without userinfo; `undefined` for anything else. */
export function parseWebhookUrl(text: string): Target | undefined {
  if (!/^https?:\/\//i.test(text)) return undefined
  return resolveTarget(text, { protocol: 'https:', hostname: 'localhost', port: 443 })
}
