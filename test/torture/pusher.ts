import { createHash } from 'node:crypto'
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Random, Tally } from './rig.ts'
import { type Told, type UnfinishedImage, type Upload } from './told.ts'

/** The hosted repository of the rigs. */
export const HOSTED = '/v2/registry.example.com/team/app'
/** Sections of the upstream file that make it so. */
export const HOSTED_SECTIONS = [
  'hosted:',
  '- names: registry.example.com/**',
  'rules:',
  '- who: everyone',
  '  may: [pull, push, delete]',
]
/** Nothing listens there: hosted names need no registry. */
export const NOWHERE = '127.0.0.1:9'

export const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json'
const PIECE_BYTES = 64 * 1024
const PATIENCE_MS = 30_000

interface Sending {
  readonly method: string
  readonly path: string
  readonly body?: Buffer
  readonly headers?: Record<string, string>
}

interface Answered {
  /** 0 for no answer. */
  readonly status: number
  readonly headers: IncomingHttpHeaders
}

/** Sends a request whose body goes out in pieces, over a new connection; never rejects. */
export async function sendPieces(
  address: string,
  { method, path, body = Buffer.alloc(0), headers }: Sending,
): Promise<Answered> {
  const { promise, resolve } = Promise.withResolvers<Answered>()
  const [host, port] = address.split(':')
  const request = httpRequest({
    host,
    port,
    method,
    path,
    agent: false,
    headers: { Connection: 'close', 'Content-Length': String(body.length), ...headers },
  })
  const timer = setTimeout(() => request.destroy(), PATIENCE_MS)
  let answered: Answered = { status: 0, headers: {} }
  request.on('error', () => undefined)
  request.on('response', response => {
    answered = { status: response.statusCode ?? 0, headers: response.headers }
    response.on('error', () => undefined).resume()
  })
  request.on('close', () => {
    clearTimeout(timer)
    resolve(answered)
  })
  for (let at = 0; at < body.length && !request.destroyed; at += PIECE_BYTES) {
    request.write(body.subarray(at, at + PIECE_BYTES))
    await nextTurn()
  }
  request.end()
  return await promise
}

export function sha256Of(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

/** A client that pushes images in every way that there is, and writes down what it was told. */
export class Pusher {
  readonly #random: Random
  readonly #tally: Tally
  readonly #name: string
  #count = 0

  constructor(name: string, random: Random, tally: Tally) {
    this.#name = name
    this.#random = random
    this.#tally = tally
  }

  /** Pushes a new image; false if a request had no answer. */
  async pushNew(address: string, told: Told): Promise<boolean> {
    const random = this.#random
    this.#count += 1
    const config = Buffer.from(JSON.stringify({ salt: random.bytes(16).toString('hex') }))
    const sizes = [600_000, 600_000, 12_000_000]
    const layers = Array.from({ length: random.between(1, 2) }, () =>
      random.bytes(random.between(64, random.pick(sizes))),
    )
    const image: UnfinishedImage = {
      blobs: [config, ...layers],
      manifest: imageManifest(config, layers),
      tags: [`${this.#name}-${this.#count}`, `${this.#name}-latest`],
    }
    told.unfinished.add(image)
    for (const bytes of image.blobs) {
      if (!(await this.#pushBlob(address, bytes, told))) return false
    }
    return await this.pushManifest(address, image, told)
  }

  /** Pushes the manifest of an image under its tags; false if there was no answer. */
  async pushManifest(address: string, image: UnfinishedImage, told: Told): Promise<boolean> {
    const digest = sha256Of(image.manifest)
    const [tag = '', ...others] = image.tags
    const all = this.#random.below(2) === 0 ? [] : others
    const query = all.length === 0 ? '' : `?${all.map(other => `tag=${other}`).join('&')}`
    const puts = all.length === 0 ? image.tags : [tag]
    for (const put of puts) {
      const named = [put, ...all]
      for (const name of named) told.tryTag(name, digest)
      const { status } = await sendPieces(address, {
        method: 'PUT',
        path: `${HOSTED}/manifests/${put}${query}`,
        body: image.manifest,
        headers: { 'Content-Type': MANIFEST_TYPE },
      })
      if (!this.#isTaken(status, 201, `PUT of the manifest ${digest}`)) return false
      told.manifests.push(digest)
      for (const name of named) told.setTag(name, digest)
    }
    told.unfinished.delete(image)
    this.#tally.add('images acknowledged')
    return true
  }

  /** Pushes a blob in one request. */
  async pushWhole(address: string, bytes: Buffer, told: Told): Promise<boolean> {
    const digest = sha256Of(bytes)
    const path = `${HOSTED}/blobs/uploads/?digest=${digest}`
    const { status } = await sendPieces(address, { method: 'POST', path, body: bytes })
    if (!this.#isTaken(status, 201, `POST of the blob ${digest}`)) return false
    told.blobs.push(digest)
    return true
  }

  async #pushBlob(address: string, bytes: Buffer, told: Told): Promise<boolean> {
    const way = this.#random.below(4)
    if (way === 0) return await this.pushWhole(address, bytes, told)
    const begun = await sendPieces(address, { method: 'POST', path: `${HOSTED}/blobs/uploads/` })
    if (!this.#isTaken(begun.status, 202, 'POST of an upload')) return false
    const location = String(begun.headers.location)
    const upload: Upload = { location, bytes, digest: sha256Of(bytes), acceptedBytes: 0, isFinishing: false }
    told.uploads.add(upload)
    if (way === 1) return await this.finish(address, upload, told)
    const chunkBytes = way === 2 ? bytes.length : this.#random.between(1, bytes.length)
    while (upload.acceptedBytes < bytes.length) {
      if (!(await this.append(address, upload, chunkBytes))) return false
    }
    return await this.finish(address, upload, told)
  }

  /** Sends the next part of an upload by PATCH. */
  async append(address: string, upload: Upload, chunkBytes: number): Promise<boolean> {
    const { bytes, location, acceptedBytes } = upload
    const end = Math.min(bytes.length, acceptedBytes + chunkBytes)
    const { status } = await sendPieces(address, {
      method: 'PATCH',
      path: location,
      body: bytes.subarray(acceptedBytes, end),
      headers: { 'Content-Range': `${acceptedBytes}-${end - 1}` },
    })
    if (!this.#isTaken(status, 202, `PATCH at ${acceptedBytes} of ${upload.digest}`)) return false
    upload.acceptedBytes = end
    return true
  }

  /** Ends an upload by PUT, with what has not been sent. */
  async finish(address: string, upload: Upload, told: Told): Promise<boolean> {
    const { bytes, location, digest, acceptedBytes } = upload
    upload.isFinishing = true
    const path = `${location}?digest=${digest}`
    const { status } = await sendPieces(address, { method: 'PUT', path, body: bytes.subarray(acceptedBytes) })
    if (!this.#isTaken(status, 201, `PUT of the blob ${digest}`)) return false
    told.blobs.push(digest)
    told.uploads.delete(upload)
    told.finishedUploads.add(location.split('/').at(-1) ?? '')
    return true
  }

  /** Every answer but the expected one is a violation. No answer is what a daemon gives that dies. */
  #isTaken(status: number, expected: number, what: string): boolean {
    if (status !== expected && status !== 0) this.#tally.violate(`${what} was answered ${status}`)
    return status === expected
  }
}

export function imageManifest(config: Buffer, layers: readonly Buffer[]): Buffer {
  const describe = (mediaType: string, bytes: Buffer): object => {
    return { mediaType, digest: sha256Of(bytes), size: bytes.length }
  }
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MANIFEST_TYPE,
      config: describe('application/vnd.oci.image.config.v1+json', config),
      layers: layers.map(bytes => describe('application/vnd.oci.image.layer.v1.tar', bytes)),
    }),
  )
}
