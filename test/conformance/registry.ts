import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { Agent, type IncomingHttpHeaders, request } from 'node:http'
import { type Digest, type DigestAlgorithm, digestOf, parseDigest } from '../../src/oci/digest.ts'

/** The answer of a registry. */
export interface RegistryAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
}

interface Asking {
  readonly body?: Uint8Array
  readonly headers?: Readonly<Record<string, string>>
}

/** Bytes with their digest. */
export interface Blob {
  readonly bytes: Buffer
  readonly digest: Digest
}

/** Random bytes with their digest by an algorithm. */
export function blobOf(algorithm: DigestAlgorithm, bytes: Buffer = randomBytes(512)): Blob {
  return { bytes, digest: digestOf(bytes, algorithm) }
}

/** The digest of bytes, by nothing that the program under test has written. */
export function hashed(algorithm: DigestAlgorithm, bytes: Uint8Array): string {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`
}

/** A client that knows the specification and nothing else of the registry. */
export class RegistryClient implements Disposable {
  readonly #address: string
  readonly #login: Readonly<Record<string, string>>
  readonly #agent = new Agent({ keepAlive: true })

  /** `login` has the headers of every request. */
  constructor(address: string, login: Readonly<Record<string, string>> = {}) {
    this.#address = address
    this.#login = login
  }

  async ask(method: string, path: string, { body, headers = {} }: Asking = {}): Promise<RegistryAnswer> {
    const { promise, resolve, reject } = Promise.withResolvers<RegistryAnswer>()
    const length: Record<string, string> =
      body === undefined ? {} : { 'content-length': String(body.byteLength) }
    const sent = request(
      `http://${this.#address}${path}`,
      { method, agent: this.#agent, headers: { ...this.#login, ...length, ...headers } },
      answer => {
        const pieces: Buffer[] = []
        answer.on('data', (piece: Buffer) => pieces.push(piece))
        answer.once('error', reject)
        answer.once('end', () =>
          resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body: Buffer.concat(pieces) }),
        )
      },
    )
    sent.once('error', reject)
    sent.end(body)
    return await promise
  }

  /** Sends a body without its length, as a stream. */
  async stream(method: string, path: string, body: Buffer): Promise<RegistryAnswer> {
    const half = Math.floor(body.length / 2)
    const { promise, resolve, reject } = Promise.withResolvers<RegistryAnswer>()
    const target = `http://${this.#address}${path}`
    const sent = request(target, { method, agent: this.#agent, headers: this.#login }, answer => {
      answer.resume()
      answer.once('end', () =>
        resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body: Buffer.alloc(0) }),
      )
    })
    sent.once('error', reject)
    sent.write(body.subarray(0, half))
    sent.end(body.subarray(half))
    return await promise
  }

  /** Begins an upload; returns where it goes on. */
  async begin(repository: string): Promise<string> {
    const answer = await this.ask('POST', `/v2/${repository}/blobs/uploads/`, { body: Buffer.alloc(0) })
    assert.equal(answer.status, 202)
    return locationOf(answer)
  }

  /** Uploads a blob by POST and PUT. */
  async upload(repository: string, blob: Blob): Promise<void> {
    const location = await this.begin(repository)
    const answer = await this.ask('PUT', withQuery(location, { digest: blob.digest }), { body: blob.bytes })
    assertCreated(answer, blob.digest)
  }

  /** Publishes a manifest by tag or digest. */
  async publish(
    repository: string,
    reference: string,
    manifest: Blob,
    mediaType: string,
  ): Promise<RegistryAnswer> {
    const headers = { 'content-type': mediaType }
    return await this.ask('PUT', `/v2/${repository}/manifests/${reference}`, {
      body: manifest.bytes,
      headers,
    })
  }

  [Symbol.dispose](): void {
    this.#agent.destroy()
  }
}

/** A 201 names the digest and where the content is. */
export function assertCreated({ status, headers, body }: RegistryAnswer, digest: Digest): void {
  assert.equal(status, 201, body.toString())
  assert.ok(String(headers.location).includes(digest), 'Location names the content')
  assert.equal(headers['docker-content-digest'], digest)
}

/** An error has a status and a code in the format of the specification. */
export function assertRefused({ status, body }: RegistryAnswer, expected: number): void {
  assert.equal(status, expected, body.toString())
  const { errors } = JSON.parse(body.toString()) as { errors: { code: string; message: string }[] }
  assert.match(errors[0]?.code ?? '', /^[A-Z_]+$/)
}

export function locationOf({ headers }: RegistryAnswer): string {
  const { location = '' } = headers
  assert.notEqual(location, '')
  return location
}

export function withQuery(path: string, parameters: Readonly<Record<string, string>>): string {
  const query = new URLSearchParams(parameters).toString()
  return `${path}${path.includes('?') ? '&' : '?'}${query}`
}

/** A digest of content that nobody has. */
export function missingDigest(algorithm: DigestAlgorithm): Digest {
  const digest = parseDigest(hashed(algorithm, randomBytes(64)))
  assert.ok(digest !== undefined)
  return digest
}
