import { Readable } from 'node:stream'
import { getCACertificates } from 'node:tls'
import { Agent, type Dispatcher } from 'undici'
import type { Clock } from '../lib/clock.ts'
import { type Digest, digestOf, parseDigest } from '../oci/digest.ts'
import type { Tag } from '../oci/name.ts'
import { proved, SourceError, type SourceFile } from './source.ts'
import { type MigrationTarget, type MovedBlob, type MovedManifest, TargetError } from './target.ts'

export interface RegistryTargetOptions {
  /** Scheme and authority of the registry. */
  readonly url: URL
  readonly login: { readonly username: string; readonly password: string } | undefined
  /** A further authority to trust, as PEM. */
  readonly ca: string | undefined
  readonly clock: Pick<Clock, 'delay'>
}

interface Sending {
  readonly method: 'HEAD' | 'GET' | 'POST' | 'PUT' | 'DELETE'
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array | AsyncIterable<Uint8Array>
  readonly signal?: AbortSignal
}

interface RegistryAnswer {
  readonly status: number
  readonly headers: Dispatcher.ResponseData['headers']
  readonly text: string
}

const CONNECT_MS = 10_000
/** The registry proves and syncs a blob before it answers. */
const ANSWER_MS = 300_000
/** Longest time in which no byte of a blob moves. */
const STALLED_MS = 120_000
const CONNECTIONS_MAX = 16
const ATTEMPTS_MAX = 6
const PAUSE_MS = 500
const PAUSE_MAX_MS = 60_000
const TEXT_SIZE_MAX = 64 * 1024

/**
 * A registry as any client pushes to it, over HTTP. Attempts that fail for a reason that passes are repeated
 * for a minute or so.
 */
export class RegistryTarget implements MigrationTarget, AsyncDisposable {
  readonly isDry = false
  readonly #url: URL
  readonly #headers: Readonly<Record<string, string>>
  readonly #agent: Agent
  readonly #clock: Pick<Clock, 'delay'>

  constructor({ url, login, ca, clock }: RegistryTargetOptions) {
    this.#url = url
    this.#clock = clock
    const basic = Buffer.from(`${login?.username}:${login?.password}`).toString('base64')
    this.#headers = login === undefined ? {} : { authorization: `Basic ${basic}` }
    this.#agent = new Agent({
      connections: CONNECTIONS_MAX,
      connect: { timeout: CONNECT_MS, ca: trusted(ca) },
      headersTimeout: ANSWER_MS,
      bodyTimeout: STALLED_MS,
    })
  }

  async requirePush(repository: string): Promise<void> {
    await this.#trying(async () => await this.#cancel(await this.#begin(repository, '')))
  }

  async hasBlob(repository: string, digest: Digest): Promise<boolean> {
    const answer = await this.#trying(() =>
      this.#ask({ method: 'HEAD', path: `/v2/${repository}/blobs/${digest}` }, 200, 404),
    )
    return answer.status === 200
  }

  /** Another repository may have it already: then no byte is sent. */
  async pushBlob(repository: string, { digest, open }: MovedBlob): Promise<number> {
    return await this.#trying(async () => {
      await using file = await open()
      const location = await this.#begin(repository, `?mount=${digest}`)
      if (location === undefined) return 0
      return await this.#upload(location, digest, file)
    })
  }

  async digestOf(repository: string, reference: Digest | Tag): Promise<Digest | undefined> {
    const answer = await this.#trying(() =>
      this.#ask({ method: 'HEAD', path: `/v2/${repository}/manifests/${reference}` }, 200, 404),
    )
    const digest = answer.headers['docker-content-digest']
    return answer.status === 200 ? parseDigest(String(digest)) : undefined
  }

  async pushManifest(repository: string, manifest: MovedManifest): Promise<void> {
    await this.#putManifest(repository, manifest.digest, manifest)
  }

  async setTag(repository: string, tag: Tag, manifest: MovedManifest): Promise<void> {
    await this.#putManifest(repository, tag, manifest)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.destroy()
  }

  async #putManifest(
    repository: string,
    reference: Digest | Tag,
    { bytes, mediaType }: MovedManifest,
  ): Promise<void> {
    const headers = { 'content-type': mediaType }
    const path = `/v2/${repository}/manifests/${reference}`
    await this.#trying(() => this.#ask({ method: 'PUT', path, headers, body: bytes }, 201))
  }

  /** Begins an upload, and returns where it goes on; `undefined` if the blob was mounted instead. */
  async #begin(repository: string, query: string): Promise<string | undefined> {
    const path = `/v2/${repository}/blobs/uploads/${query}`
    const { status, headers } = await this.#ask({ method: 'POST', path }, 201, 202)
    return status === 201 ? undefined : this.#locationOf(headers)
  }

  /** The login goes to the registry and to nobody else. */
  #locationOf(headers: RegistryAnswer['headers']): string {
    const text = String(headers['location'] ?? '')
    const url = text === '' || !URL.canParse(text, this.#url) ? undefined : new URL(text, this.#url)
    if (url === undefined)
      throw new TargetError('all', `${this.#url.origin} does not say where the upload goes on: "${text}"`)
    if (url.origin !== this.#url.origin)
      throw new TargetError('all', `${this.#url.origin} sends uploads to another host, ${url.origin}`)
    return `${url.pathname}${url.search}`
  }

  async #cancel(location: string | undefined): Promise<void> {
    if (location !== undefined) await this.#ask({ method: 'DELETE', path: location }, 204, 202, 404, 405)
  }

  async #upload(location: string, digest: Digest, file: SourceFile): Promise<number> {
    const { sizeBytes } = file
    const stalled = new AbortController()
    const timer = setTimeout(() => stalled.abort(new Error('no byte moves')), STALLED_MS).unref()
    let damage: unknown
    const body = (async function* () {
      try {
        for await (const piece of proved(file, digest)) {
          timer.refresh()
          yield piece
        }
        // The answer has a limit of its own.
        clearTimeout(timer)
      } catch (error) {
        damage = error
        throw error
      }
    })()
    const path = `${location}${location.includes('?') ? '&' : '?'}digest=${digest}`
    const headers = { 'content-type': 'application/octet-stream', 'content-length': String(sizeBytes) }
    try {
      if (sizeBytes === 0) requireEmpty(digest)
      const sent = sizeBytes === 0 ? {} : { body, signal: stalled.signal }
      await this.#ask({ method: 'PUT', path, headers, ...sent }, 201)
      return sizeBytes
    } catch (error) {
      await this.#cancel(location).catch(() => undefined)
      throw damage instanceof SourceError ? damage : error
    } finally {
      clearTimeout(timer)
      await body.return()
    }
  }

  /** Repeats an action for as long as it fails in a way that may pass. */
  async #trying<T>(action: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await action()
      } catch (error) {
        const pauseMs = pauseAfter(error, attempt)
        if (pauseMs === undefined) throw error
        await this.#clock.delay(pauseMs)
      }
    }
  }

  async #ask(sending: Sending, ...expected: readonly number[]): Promise<RegistryAnswer> {
    const answer = await this.#send(sending)
    if (expected.includes(answer.status)) return answer
    throw refusalOf(answer, `${sending.method} ${sending.path}`)
  }

  async #send({ method, path, headers, body, signal }: Sending): Promise<RegistryAnswer> {
    try {
      const answer = await this.#agent.request({
        origin: this.#url.origin,
        method,
        path,
        headers: { ...this.#headers, ...headers },
        // undici would close a connection after a HEAD.
        reset: false,
        body: body === undefined || body instanceof Uint8Array ? (body ?? null) : Readable.from(body),
        ...(signal === undefined ? {} : { signal }),
      })
      return { status: answer.statusCode, headers: answer.headers, text: await textOf(answer.body) }
    } catch (error) {
      if (error instanceof SourceError) throw error
      throw new UnansweredError(`${this.#url.origin} gives no answer: ${reasonOf(error)}`, { cause: error })
    }
  }
}

/** The target gave no answer, or asks to be left alone. */
class UnansweredError extends TargetError {
  readonly pauseMs: number | undefined

  constructor(message: string, { pauseMs, ...options }: ErrorOptions & { readonly pauseMs?: number } = {}) {
    super('all', message, options)
    this.pauseMs = pauseMs
  }
}

function pauseAfter(error: unknown, attempt: number): number | undefined {
  const mayPass = error instanceof UnansweredError || (error instanceof SourceError && error.isPassing)
  if (!mayPass || attempt === ATTEMPTS_MAX) return undefined
  const asked = error instanceof UnansweredError ? error.pauseMs : undefined
  return Math.min(PAUSE_MAX_MS, asked ?? PAUSE_MS * 2 ** attempt)
}

const CONCERNS: ReadonlyMap<number, TargetError['concerns']> = new Map([
  [401, 'rights'],
  [403, 'rights'],
  [405, 'name'],
])

function refusalOf({ status, headers, text }: RegistryAnswer, asked: string): TargetError {
  const why = messageOf(text) ?? `it answers ${status} to ${asked}`
  if (status === 429 || status >= 500) {
    const seconds = Number(headers['retry-after'])
    return new UnansweredError(why, Number.isFinite(seconds) ? { pauseMs: seconds * 1000 } : {})
  }
  return new TargetError(CONCERNS.get(status) ?? 'item', why)
}

function messageOf(text: string): string | undefined {
  try {
    const { errors } = JSON.parse(text) as { readonly errors?: readonly { readonly message?: unknown }[] }
    const message = errors?.[0]?.message
    return typeof message === 'string' ? message : undefined
  } catch {
    // Not the answer of a registry.
    return undefined
  }
}

function requireEmpty(digest: Digest): void {
  const nothing = new Uint8Array(0)
  const algorithm = digest.startsWith('sha512:') ? 'sha512' : 'sha256'
  if (digestOf(nothing, algorithm) !== digest) throw new SourceError('it is damaged: it has no bytes')
}

async function textOf(body: Dispatcher.ResponseData['body']): Promise<string> {
  let text = ''
  for await (const piece of body) {
    text += String(piece)
    if (text.length > TEXT_SIZE_MAX) break
  }
  return text
}

/** Clients trust the CAs of the system; Node trusts only its built-in ones by default. */
function trusted(ca: string | undefined): string[] {
  return [...getCACertificates('default'), ...getCACertificates('system'), ...(ca === undefined ? [] : [ca])]
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.message === '' && 'code' in error ? String(error.code) : error.message
}
