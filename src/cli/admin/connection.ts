import { readFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { AdminAnswers, AdminStreams, StreamFailure } from '../../admin/contract.ts'
import { formatListen, parseListen } from '../../config/listen.ts'
import { ConfigError, flagProblem } from '../../config/problem.ts'
import { request as httpRequest } from '../../lib/libraries.ts'
import { hasCode } from '../../lib/system-error.ts'
import type { Environment } from '../environment.ts'
import type { ToolFlag, ToolWords } from '../tool.ts'

const DEFAULT_ADMIN = 'http://127.0.0.1:8081'

/** The flags of every command that talks to a running daemon. */
export const ADMIN_FLAGS = {
  admin: {
    type: 'text',
    value: 'URL',
    description: `admin listener of the daemon, http://host:port or unix:/path [ENTREPOT_ADMIN, default that of ADMIN_LISTEN, else ${DEFAULT_ADMIN}]`,
  },
  'token-file': {
    type: 'text',
    value: 'FILE',
    description: "the daemon's --admin-token-file [ENTREPOT_ADMIN_TOKEN_FILE]",
  },
  json: { type: 'boolean', description: 'print the answer of the daemon as JSON, for scripts' },
} as const satisfies Readonly<Record<string, ToolFlag>>

/** The daemon did not answer, or refused. The message is for the user. */
export class AdminError extends Error {
  /** The status of a refusal; `undefined` if there was no answer. */
  readonly status: number | undefined

  constructor(message: string, { status, ...options }: ErrorOptions & { readonly status?: number } = {}) {
    super(message, options)
    this.name = 'AdminError'
    this.status = status
  }
}

/** Connection to the admin API of a running daemon. */
export class AdminConnection {
  readonly #address: string
  readonly #token: string | undefined

  constructor(address: string, token: string | undefined) {
    this.#address = address
    this.#token = token
  }

  /**
   * Asks an endpoint for one value; `name` is a method and a path below `/_admin/v1/`. Throws an {@link
   * AdminError}.
   */
  async ask<Name extends keyof AdminAnswers>(name: Name, query: Query = {}): Promise<AdminAnswers[Name]> {
    const response = await this.#request(name, query)
    return parse(await readText(response)) as AdminAnswers[Name]
  }

  /** Sends content to an endpoint. Throws an {@link AdminError}. */
  async send<Name extends keyof AdminAnswers>(
    name: Name,
    query: Query,
    body: SentBody,
  ): Promise<AdminAnswers[Name]> {
    const response = await this.#request(name, query, body)
    return parse(await readText(response)) as AdminAnswers[Name]
  }

  /** Asks an endpoint for a stream of values. Throws an {@link AdminError}. */
  async *follow<Name extends keyof AdminStreams>(
    name: Name,
    query: Query = {},
  ): AsyncGenerator<AdminStreams[Name]> {
    const response = await this.#request(name, query)
    const lines = createInterface({ input: response, crlfDelay: Infinity })
    for await (const line of lines) {
      const value = parse(line) as AdminStreams[Name] | StreamFailure
      if ('event' in value && value.event === 'error') throw new AdminError(value.message)
      yield value as AdminStreams[Name]
    }
    if (!response.complete) throw new AdminError('the daemon closed the connection before the end')
  }

  async #request(name: string, query: Query, body?: SentBody): Promise<IncomingMessage> {
    const [method = 'GET', path = ''] = name.split(' ')
    const { promise, resolve: answer, reject } = Promise.withResolvers<IncomingMessage>()
    const request = httpRequest({
      ...this.#target(),
      method,
      path: `/_admin/v1/${path}${queryText(query)}`,
      agent: false,
      headers: {
        ...(this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` }),
        // A refusal then comes before the first byte, and not in the midst of them.
        ...(body === undefined ? {} : { 'content-length': String(body.sizeBytes), expect: '100-continue' }),
      },
    })
    request.on('response', answer)
    request.on('error', reject)
    if (body === undefined) request.end()
    else
      request
        .on('continue', () => void pipeline(Readable.from(body.pieces), request).catch(reject))
        .flushHeaders()
    try {
      const response = await promise
      if (response.statusCode === 200) return response
      const { statusCode: status = 0 } = response
      throw new AdminError(refusal(await readText(response), status), { status })
    } catch (error) {
      throw error instanceof AdminError ? error : this.#unreachable(error)
    }
  }

  #target(): { readonly socketPath: string } | { readonly host: string; readonly port: string } {
    if (this.#address.startsWith('unix:')) return { socketPath: this.#address.slice('unix:'.length) }
    const url = new URL(this.#address)
    return { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port === '' ? '80' : url.port }
  }

  #unreachable(error: unknown): AdminError {
    if (hasCode(error, 'ECONNREFUSED', 'ENOENT', 'ECONNRESET', 'EHOSTUNREACH', 'ENOTFOUND')) {
      return new AdminError(
        `no daemon answers at ${this.#address}; is it running, and is --admin-listen on? (give another address with --admin)`,
      )
    }
    if (hasCode(error, 'EACCES')) return new AdminError(`${this.#address} cannot be used: permission denied`)
    return new AdminError(`${this.#address} does not answer: ${String(error)}`, { cause: error })
  }
}

/** Bytes to send. */
interface SentBody {
  readonly pieces: Iterable<Uint8Array> | AsyncIterable<Uint8Array>
  readonly sizeBytes: number
}

/** The query of a URL: lists are repeated, `undefined` is omitted. */
export type Query = Readonly<Record<string, string | readonly string[] | undefined>>

/** Creates the connection from flags and environment. */
export async function connect(environment: Environment, words: ToolWords): Promise<AdminConnection> {
  const { env, cwd } = environment
  const given = words.text('admin') ?? nonEmpty(env['ENTREPOT_ADMIN'])
  const stated = given ?? ownListener(environment) ?? DEFAULT_ADMIN
  // As --admin-listen has it.
  const address = /^[^/]+:\d+$/.test(stated) ? `http://${stated}` : stated
  if (
    !/^(?:http:\/\/[^/]+\/?|unix:.+)$/.test(address) ||
    (!address.startsWith('unix:') && !URL.canParse(address))
  ) {
    throw new ConfigError([
      flagProblem('admin', 'is not an address', `such as ${DEFAULT_ADMIN} or unix:/path`),
    ])
  }
  // The daemon's own token goes to the daemon of this environment only.
  const own = given === undefined ? nonEmpty(env['ADMIN_TOKEN_FILE']) : undefined
  const file = words.text('token-file') ?? nonEmpty(env['ENTREPOT_ADMIN_TOKEN_FILE']) ?? own
  if (file === undefined) return new AdminConnection(address, undefined)
  try {
    return new AdminConnection(address, (await readFile(resolve(cwd, file), 'utf8')).trim())
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new ConfigError([
      flagProblem('token-file', `cannot be read: ${code ?? 'unknown error'}`, undefined),
    ])
  }
}

/** The admin listener of a daemon with the same environment; `exec` in a container has that. */
function ownListener({ env, cwd }: Environment): string | undefined {
  const listen = parseListen(env['ADMIN_LISTEN'] ?? '', cwd)
  if (listen === undefined) return undefined
  if (listen.kind === 'unix') return formatListen(listen)
  const host = ANY_HOSTS.get(listen.host) ?? listen.host
  return `http://${formatListen({ ...listen, host })}`
}

/** Addresses to listen on that mean every address, and the one at which this machine reaches them. */
const ANY_HOSTS: ReadonlyMap<string, string> = new Map([
  ['0.0.0.0', '127.0.0.1'],
  ['::', '::1'],
])

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text
}

function queryText(query: Query): string {
  const parameters = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined) continue
    for (const each of typeof value === 'string' ? [value] : value) parameters.append(name, each)
  }
  return parameters.size === 0 ? '' : `?${parameters.toString()}`
}

const TEXT_LENGTH_MAX = 64 * 1024 * 1024

async function readText(response: IncomingMessage): Promise<string> {
  let text = ''
  response.setEncoding('utf8')
  for await (const piece of response) {
    text += String(piece)
    if (text.length > TEXT_LENGTH_MAX) throw new AdminError('the answer is too long')
  }
  return text
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new AdminError('the server there is not an admin listener of Entrepot', { cause })
  }
}

function refusal(text: string, status: number): string {
  try {
    const { errors } = JSON.parse(text) as { readonly errors?: readonly { readonly message?: unknown }[] }
    const message = errors?.[0]?.message
    if (typeof message === 'string') return message
  } catch {
    // Not an error body of Entrepot.
  }
  return `the server answers ${status}: it is not an admin listener of Entrepot`
}
