import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import type { Clock } from '../lib/clock.ts'
import { parseCidr } from '../lib/ip-address.ts'
import { UpstreamError } from '../oci/error.ts'
import type { Namespace } from '../oci/namespace.ts'
import type { UpstreamAnswer } from './answer.ts'
import { DIAL_TIMINGS, Dialer } from './dial/dialer.ts'
import { chooseProxy, DIRECT, type Egress } from './dial/egress.ts'
import { PUBLIC_TLS } from './dial/handshake.ts'
import { type Resolve, systemResolve } from './dial/resolve.ts'
import { isSameOrigin, resolveTarget, type Target } from './dial/target.ts'
import { IDLE_LIMITS, Transport } from './transport.ts'

const BYTES_MAX = 512 * 1024
/** From the start of a request to the end of its answer, in milliseconds. */
const WITHIN_MS = 5000
const TOKEN_BYTES_MAX = 16 * 1024

export interface DocumentsOptions {
  /** Name in error messages. */
  readonly name: string
  /** A URL of the server. */
  readonly url: string
  readonly caFile: string | undefined
  /** Holds a bearer token, read again for each request. Only the server of `url` gets it. */
  readonly tokenFile: string | undefined
  /** CIDR blocks that the server may be in although policy would refuse them. */
  readonly allowAddresses: readonly string[]
  readonly egress?: Egress | undefined
  readonly instance: string
  readonly clock: Clock
  readonly resolve?: Resolve | undefined
  readonly withinMs?: number
}

/**
 * Fetches JSON documents from one server that the operator named, under the rules of the dialer for
 * configured hosts. Redirects are not followed, long documents are refused, and slow ones are cut.
 */
export class Documents implements AsyncDisposable {
  readonly #options: DocumentsOptions
  readonly #server: Target
  readonly #transport: Transport

  /** Throws if the URL or a block is not valid, or if the file of the CA cannot be read. */
  constructor(options: DocumentsOptions) {
    const { url, clock, instance, name, caFile, resolve = systemResolve, egress = DIRECT } = options
    this.#options = options
    this.#server = parseTarget(url)
    const allowed = options.allowAddresses.map(text => {
      const cidr = parseCidr(text)
      if (cidr === undefined) throw new TypeError(`allow_addresses of ${name} has no block: ${text}`)
      return cidr
    })
    const { origin } = this.#server
    const dialer = new Dialer({
      // The namespace only names the server in refusals.
      terms: { kind: 'configured', namespace: name as Namespace, origin, allowed, realms: [] },
      tls: { ...PUBLIC_TLS, ca: caFile === undefined ? undefined : readFileSync(caFile, 'utf8') },
      resolve,
      timings: DIAL_TIMINGS,
      proxyFor: chooseProxy(undefined, egress),
    })
    const timings = { firstByteMs: this.#withinMs, retryWithinMs: 1000, retryPauseMs: 100 }
    this.#transport = new Transport({
      dialer,
      clock,
      timings,
      idle: IDLE_LIMITS,
      userAgent: 'entrepot',
      instance,
    })
  }

  /** Rejects with an `UpstreamError` or a refusal of the dialer if there is no document. */
  async fetch(url: string): Promise<unknown> {
    const target = parseTarget(url)
    const { tokenFile, name } = this.#options
    const isOwn = isSameOrigin(target.origin, this.#server.origin)
    const authorization = isOwn && tokenFile !== undefined ? await bearerOf(tokenFile) : undefined
    const signal = AbortSignal.timeout(this.#withinMs)
    const headers = { Accept: 'application/json' }
    const request = { method: 'GET', target, headers, authorization } as const
    const answer = await this.#transport.sendTwice(request, signal)
    const text = await this.#text(answer, signal)
    if (answer.status !== 200)
      throw new UpstreamError('status', `${name} answered ${answer.status}`, { status: answer.status })
    try {
      return JSON.parse(text)
    } catch (error) {
      throw new UpstreamError('invalid', `${name} did not answer with JSON`, { cause: error })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#transport[Symbol.asyncDispose]()
  }

  get #withinMs(): number {
    return this.#options.withinMs ?? WITHIN_MS
  }

  async #text({ body }: UpstreamAnswer, signal: AbortSignal): Promise<string> {
    const { name } = this.#options
    const pieces: Uint8Array[] = []
    let sizeBytes = 0
    const cut = (): void => void body.destroy(new Error('too slow'))
    signal.addEventListener('abort', cut, { once: true })
    try {
      for await (const piece of body as AsyncIterable<Uint8Array>) {
        sizeBytes += piece.byteLength
        if (sizeBytes > BYTES_MAX) throw new UpstreamError('invalid', `${name} sent over ${BYTES_MAX} bytes`)
        pieces.push(piece)
      }
    } catch (error) {
      if (error instanceof UpstreamError) throw error
      throw new UpstreamError('cut', `the answer of ${name} broke off`, { cause: error })
    } finally {
      signal.removeEventListener('abort', cut)
      body.destroy()
    }
    return Buffer.concat(pieces).toString('utf8')
  }
}

function parseTarget(url: string): Target {
  const target = resolveTarget(url, { protocol: 'https:', hostname: 'localhost', port: 443 })
  if (target === undefined || !/^https?:\/\//i.test(url)) throw new TypeError('this is not a URL of a server')
  return target
}

async function bearerOf(file: string): Promise<string> {
  const text = (await readFile(file, 'utf8')).trim()
  if (!/^[!-~]+$/.test(text) || text.length > TOKEN_BYTES_MAX) throw new Error(`${file} holds no token`)
  return `Bearer ${text}`
}
