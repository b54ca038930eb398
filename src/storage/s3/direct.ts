import type { Readable } from 'node:stream'
import type { S3Client } from '@aws-sdk/client-s3'
import { pathOf, Signatures } from './signature.ts'

/** Options of a call for the SDK's `send`, and for its handler of connections. */
export interface CallOptions {
  readonly abortSignal: AbortSignal
  /** Longest time until the headers of one attempt are here, in milliseconds. */
  readonly requestTimeout: number
}

/** A request for one object, which may be repeated. */
export interface DirectRequest {
  readonly method: 'HEAD' | 'PUT'
  readonly key: string
  /** Must not change until the answer is here. */
  readonly body?: Uint8Array
  readonly contentType?: string
}

/** Where the SDK sends requests to the bucket, and how they are signed. */
interface Endpoint {
  readonly url: URL
  readonly region: string
}

interface Answer {
  readonly statusCode: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Readable
}

const NOTHING = new Uint8Array(0)

/**
 * Sends frequent small requests past the SDK, which costs three times the processor time of the request
 * itself. The connections, the credentials, the endpoint and the clock are those of the SDK. Only a plain
 * answer counts. After anything else, such as an error or a broken connection, and where another signature is
 * needed, the caller asks again by the SDK, which knows what to retry and what to report.
 */
export class DirectRequests {
  readonly #client: S3Client
  readonly #signatures = new Signatures()
  #endpoint: Endpoint | undefined

  constructor(client: S3Client) {
    this.#client = client
    client.middlewareStack.add(
      (next, context) => async args => {
        this.#endpoint = endpointIn(context.endpointV2)
        return await next(args)
      },
      { step: 'build', name: 'rememberEndpoint' },
    )
  }

  /** True if the request was done, `'absent'` if S3 has no such object, `undefined` to ask by the SDK. */
  async send(request: DirectRequest, options: CallOptions): Promise<true | 'absent' | undefined> {
    if (this.#endpoint === undefined) return undefined
    try {
      const { statusCode, headers, body } = await this.#answerOf(request, this.#endpoint, options)
      // What is left unread keeps the connection from its next request. A break of it changes no answer.
      body.on('error', () => undefined).resume()
      // S3 may say of a PUT in the body of a 200 that it failed, without the tag of an object.
      if (statusCode === 200 && (request.method === 'HEAD' || 'etag' in headers)) return true
      const isAbsent = request.method === 'HEAD' && statusCode === 404 && 'x-amz-request-id' in headers
      return isAbsent ? 'absent' : undefined
    } catch {
      return undefined
    }
  }

  async #answerOf(
    { method, key, body = NOTHING, contentType }: DirectRequest,
    { url, region }: Endpoint,
    options: CallOptions,
  ): Promise<Answer> {
    const { config } = this.#client
    const path = pathOf(url.pathname, key)
    const atMs = Date.now() + config.systemClockOffset
    const keys = await config.credentials()
    const headers = this.#signatures.sign({ method, host: url.host, path, body, region, atMs }, keys)
    if (method === 'PUT') headers['content-length'] = String(body.byteLength)
    if (contentType !== undefined) headers['content-type'] = contentType
    const { protocol, hostname, port } = url
    const where = { protocol, hostname, ...(port === '' ? {} : { port: Number(port) }) }
    const sent = { ...where, method, path, headers, ...(body.byteLength === 0 ? {} : { body }) }
    const { response } = (await config.requestHandler.handle(sent as never, options)) as {
      readonly response: Answer
    }
    return response
  }
}

/** What the SDK has resolved for the bucket; `undefined` if that wants another signature than Version 4. */
function endpointIn(resolved: unknown): Endpoint | undefined {
  const { url, headers, properties } = (resolved ?? {}) as {
    readonly url?: URL
    readonly headers?: object
    readonly properties?: { readonly authSchemes?: readonly Partial<Record<string, string>>[] }
  }
  const { name, signingName, signingRegion: region } = properties?.authSchemes?.[0] ?? {}
  if (url === undefined || name !== 'sigv4' || signingName !== 's3' || region === undefined) return undefined
  return Object.keys(headers ?? {}).length > 0 ? undefined : { url, region }
}
