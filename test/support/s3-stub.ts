import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { S3Fault, S3Operation, S3Request } from './s3-fault.ts'

export interface StubObject {
  readonly bytes: Buffer
  readonly etag: string
  readonly modifiedAtMs: number
  readonly metadata?: Readonly<Record<string, string>>
}

/**
 * Reactions of a stub to `If-None-Match: *` on a PUT. `two-winners`: the first two writers of a key create
 * it. `stores-refused`: the writer that is refused overwrites all the same. `conflicts`: the first writers of
 * a key are told to try again.
 */
export type StubConditionalPut =
  | 'supported'
  | 'unsupported'
  | 'ignored'
  | 'two-winners'
  | 'stores-refused'
  | 'conflicts'

/** Writers of one key that are told to try again. */
const CONFLICTS = 5

export interface StubUpload {
  readonly key: string
  readonly parts: Map<number, Buffer>
  initiatedAtMs: number
}

/** Deviations of a stub from a correct S3. */
export interface S3StubOptions {
  readonly bucket?: string
  /** Its reaction to `If-None-Match: *` on a PUT. */
  readonly conditionalPut?: StubConditionalPut
  /** Its clock, beside that of the machine, in milliseconds. */
  readonly aheadMs?: number
  /** True if a missing key is 403, as for a client that may not list. */
  readonly hidesAbsence?: boolean
  /** True if it does not know requests that delete several objects. */
  readonly refusesBatches?: boolean
  /** Entries per page of a listing. */
  readonly pageSize?: number
}

interface Rule {
  readonly matches: (request: S3Request) => boolean
  readonly fault: S3Fault
  left: number
}

/** One request and its answer. */
interface Answer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Buffer
}

/** Starts a stub on a socket of its own; dispose of it at the end of the test. */
export async function startS3Stub(options: S3StubOptions = {}): Promise<S3Stub> {
  const stub = new S3Stub(options)
  await stub.listen()
  return stub
}

/**
 * One bucket of an S3 server that answers correctly until a test scripts a fault. It checks the signed hash
 * of bodies, and no signatures.
 */
export class S3Stub implements AsyncDisposable {
  readonly bucket: string
  readonly objects = new Map<string, StubObject>()
  readonly uploads = new Map<string, StubUpload>()
  /** Every request, in order of arrival. */
  readonly requests: S3Request[] = []
  /** If set, requests with other access keys are answered `ExpiredToken`. */
  accessKeyId: string | undefined
  /** Number of requests being answered. */
  running = 0
  readonly #options: S3StubOptions
  readonly #sockets = new Set<Socket>()
  readonly #rules: Rule[] = []
  /** Number of conditional PUTs of a key. */
  readonly #conditional = new Map<string, number>()
  readonly #server: Server

  constructor(options: S3StubOptions) {
    this.#options = options
    this.bucket = options.bucket ?? 'cache'
    this.#server = createServer((request, response) => void this.#handle(request, response))
    this.#server.on('connection', socket => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket)).on('error', () => undefined)
    })
  }

  /** Such as `http://127.0.0.1:1234`. */
  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Number of open connections. */
  get connections(): number {
    return this.#sockets.size
  }

  async listen(): Promise<void> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
  }

  /** Applies a fault to the next matching requests; to all of them without a count. */
  fault(operation: S3Operation | ((request: S3Request) => boolean), fault: S3Fault, times = Infinity): void {
    const matches =
      typeof operation === 'string' ? (request: S3Request) => request.operation === operation : operation
    this.#rules.push({ matches, fault, left: times })
  }

  /** Removes all faults. */
  heal(): void {
    this.#rules.length = 0
  }

  put(key: string, bytes: Buffer, metadata: Readonly<Record<string, string>> = {}): void {
    this.objects.set(key, { bytes, etag: etagOf(bytes), modifiedAtMs: this.#nowMs(), metadata })
  }

  #nowMs(): number {
    return Date.now() + (this.#options.aheadMs ?? 0)
  }

  /** Number of requests of a kind. */
  count(operation: S3Operation): number {
    return this.requests.filter(request => request.operation === operation).length
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.running += 1
    response.on('close', () => (this.running -= 1))
    try {
      const body = await readAll(request)
      const seen = this.#parse(request, body)
      this.requests.push(seen)
      const rule = this.#rules.find(candidate => candidate.left > 0 && candidate.matches(seen))
      if (rule !== undefined) rule.left -= 1
      await this.#respond(seen, { request, response, body }, rule?.fault)
    } catch {
      // The client broke off.
      request.socket.destroy()
    }
  }

  async #respond(
    seen: S3Request,
    exchange: { readonly request: IncomingMessage; readonly response: ServerResponse; readonly body: Buffer },
    fault: S3Fault | undefined,
  ): Promise<void> {
    const { request, response, body } = exchange
    if (fault?.kind === 'hold') await fault.until
    if (fault?.kind === 'silence') return
    if (fault?.kind === 'reset') return void request.socket.destroy()
    if (fault?.kind === 'foreign') return send(response, { status: fault.status })
    response.setHeader('x-amz-request-id', 'stub')
    if (fault?.kind === 'error') return send(response, failure(fault.status, fault.code))
    if (fault?.kind === 'error-in-200') {
      return send(response, { ...failure(200, 'InternalError'), status: 200 })
    }
    const answer = this.#refusal(seen, request, body) ?? this.#answer(seen, body)
    if (fault?.kind === 'lost-answer') return void request.socket.destroy()
    sendFaulty(response, answer, fault)
  }

  #parse(request: IncomingMessage, body: Buffer): S3Request {
    const url = new URL(request.url ?? '', 'http://stub')
    const [, bucket = '', ...rest] = decodeURIComponent(url.pathname).split('/')
    const key = rest.join('/')
    const number = url.searchParams.get('partNumber')
    const header = (name: string): string | undefined => {
      const value = request.headers[name]
      return typeof value === 'string' ? value : undefined
    }
    const credential =
      url.searchParams.get('X-Amz-Credential') ??
      /Credential=([^,]+)/.exec(header('authorization') ?? '')?.[1]
    return {
      operation: bucket === '' ? 'ListObjectsV2' : operationOf(request.method ?? '', url.searchParams, key),
      key: key === '' ? (url.searchParams.get('prefix') ?? '') : key,
      range: header('range'),
      ifMatch: header('if-match'),
      ifNoneMatch: header('if-none-match'),
      partNumber: number === null ? undefined : Number(number),
      uploadId: markerOf(url.searchParams),
      accessKeyId: credential?.split('/')[0],
      bodyBytes: body.length,
      metadata: Object.fromEntries(
        Object.entries(request.headers).flatMap(([name, value]) =>
          name.startsWith('x-amz-meta-') ? [[name, String(value)]] : [],
        ),
      ),
    }
  }

  #refusal(seen: S3Request, request: IncomingMessage, body: Buffer): Answer | undefined {
    const bucket = decodeURIComponent(new URL(request.url ?? '', 'http://stub').pathname).split('/')[1]
    if (bucket !== this.bucket) return failure(404, 'NoSuchBucket')
    if (this.accessKeyId !== undefined && seen.accessKeyId !== this.accessKeyId)
      return failure(400, 'ExpiredToken')
    const sum = request.headers['x-amz-content-sha256']
    if (sum === undefined || sum === 'UNSIGNED-PAYLOAD') return undefined
    const isSame = sum === createHash('sha256').update(body).digest('hex')
    return isSame ? undefined : failure(400, 'XAmzContentSHA256Mismatch')
  }

  #answer(seen: S3Request, body: Buffer): Answer {
    switch (seen.operation) {
      case 'GetObject':
      case 'HeadObject':
        return this.#get(seen)
      case 'PutObject':
        return this.#put(seen, body)
      case 'DeleteObject':
        this.objects.delete(seen.key)
        return { status: 204 }
      case 'DeleteObjects':
        return this.#deleteAll(body)
      case 'CreateMultipartUpload':
        return this.#create(seen)
      case 'UploadPart':
        return this.#part(seen, body)
      case 'CompleteMultipartUpload':
        return this.#complete(seen, body)
      case 'AbortMultipartUpload':
        return this.uploads.delete(seen.uploadId ?? '') ? { status: 204 } : failure(404, 'NoSuchUpload')
      case 'ListMultipartUploads':
        return this.#listUploads(seen)
      case 'ListObjectsV2':
        return this.#listObjects(seen)
    }
  }

  #get(seen: S3Request): Answer {
    const held = this.objects.get(seen.key)
    if (held === undefined) {
      return this.#options.hidesAbsence === true ? failure(403, 'AccessDenied') : failure(404, 'NoSuchKey')
    }
    if (seen.ifMatch !== undefined && seen.ifMatch !== held.etag) return failure(412, 'PreconditionFailed')
    const headers = {
      ETag: held.etag,
      'Last-Modified': new Date(held.modifiedAtMs).toUTCString(),
      'Content-Type': 'application/octet-stream',
      Date: new Date(this.#nowMs()).toUTCString(),
      ...held.metadata,
    }
    const [, from, to] = /^bytes=([0-9]+)-([0-9]+)$/.exec(seen.range ?? '') ?? []
    if (from === undefined || to === undefined) {
      return { status: 200, headers, body: held.bytes }
    }
    if (Number(from) >= held.bytes.length) return failure(416, 'InvalidRange')
    const end = Math.min(Number(to) + 1, held.bytes.length)
    const range = { 'Content-Range': `bytes ${from}-${end - 1}/${held.bytes.length}` }
    return { status: 206, headers: { ...headers, ...range }, body: held.bytes.subarray(Number(from), end) }
  }

  #deleteAll(body: Buffer): Answer {
    if (this.#options.refusesBatches === true) return failure(501, 'NotImplemented')
    for (const [, key = ''] of body.toString().matchAll(/<Key>([^<]*)<\/Key>/g)) this.objects.delete(key)
    return { status: 200, body: Buffer.from('<DeleteResult></DeleteResult>') }
  }

  #put(seen: S3Request, body: Buffer): Answer {
    const { conditionalPut = 'supported' } = this.#options
    if (seen.ifNoneMatch !== undefined && conditionalPut !== 'ignored') {
      if (conditionalPut === 'unsupported') return failure(501, 'NotImplemented')
      const tries = (this.#conditional.get(seen.key) ?? 0) + 1
      this.#conditional.set(seen.key, tries)
      if (conditionalPut === 'conflicts' && tries <= CONFLICTS)
        return failure(409, 'ConditionalRequestConflict')
      const isSecond = conditionalPut === 'two-winners' && tries === 2
      if (this.objects.has(seen.key) && !isSecond) {
        if (conditionalPut === 'stores-refused') this.put(seen.key, body, seen.metadata)
        return failure(412, 'PreconditionFailed')
      }
    }
    this.put(seen.key, body, seen.metadata)
    return { status: 200, headers: { ETag: etagOf(body) } }
  }

  #create(seen: S3Request): Answer {
    const id = randomUUID()
    this.uploads.set(id, { key: seen.key, parts: new Map(), initiatedAtMs: Date.now() })
    return xml(
      200,
      `<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`,
    )
  }

  #part(seen: S3Request, body: Buffer): Answer {
    const upload = this.uploads.get(seen.uploadId ?? '')
    if (upload === undefined) return failure(404, 'NoSuchUpload')
    upload.parts.set(seen.partNumber ?? 0, body)
    return { status: 200, headers: { ETag: etagOf(body) } }
  }

  #complete(seen: S3Request, body: Buffer): Answer {
    const upload = this.uploads.get(seen.uploadId ?? '')
    if (upload === undefined) return failure(404, 'NoSuchUpload')
    const wanted = [...body.toString().matchAll(/<Part>.*?<\/Part>/gs)].map(([part]) => ({
      number: Number(/<PartNumber>([0-9]+)</.exec(part)?.[1]),
      etag: /<ETag>(?:"|&quot;)?([0-9a-f]+)/.exec(part)?.[1],
    }))
    const parts: Buffer[] = []
    for (const { number, etag } of wanted) {
      const part = upload.parts.get(number)
      if (part === undefined || etagOf(part) !== `"${etag}"`) return failure(400, 'InvalidPart')
      parts.push(part)
    }
    this.uploads.delete(seen.uploadId ?? '')
    const sums = parts.map(part => createHash('md5').update(part).digest())
    const etag = `"${createHash('md5').update(Buffer.concat(sums)).digest('hex')}-${parts.length}"`
    this.objects.set(upload.key, { bytes: Buffer.concat(parts), etag, modifiedAtMs: this.#nowMs() })
    return xml(
      200,
      `<CompleteMultipartUploadResult><ETag>${etag.replaceAll('"', '&quot;')}</ETag></CompleteMultipartUploadResult>`,
    )
  }

  #listUploads(seen: S3Request): Answer {
    const below = [...this.uploads].filter(([, upload]) => upload.key.startsWith(seen.key))
    const { page, next } = this.#page(below, ([id]) => id, seen.uploadId)
    const entries = page.map(
      ([id, { key, initiatedAtMs }]) =>
        `<Upload><Key>${key}</Key><UploadId>${id}</UploadId><Initiated>${new Date(initiatedAtMs).toISOString()}</Initiated></Upload>`,
    )
    const more =
      next === undefined
        ? '<IsTruncated>false</IsTruncated>'
        : `<IsTruncated>true</IsTruncated><NextKeyMarker>${next[1].key}</NextKeyMarker><NextUploadIdMarker>${next[0]}</NextUploadIdMarker>`
    return xml(200, `<ListMultipartUploadsResult>${more}${entries.join('')}</ListMultipartUploadsResult>`)
  }

  #listObjects(seen: S3Request): Answer {
    const below = [...this.objects].filter(([key]) => key.startsWith(seen.key))
    const { page, next } = this.#page(below, ([key]) => key, seen.uploadId)
    const entries = page.map(
      ([key, { bytes, modifiedAtMs }]) =>
        `<Contents><Key>${key}</Key><Size>${bytes.length}</Size><LastModified>${new Date(modifiedAtMs).toISOString()}</LastModified></Contents>`,
    )
    const more =
      next === undefined
        ? '<IsTruncated>false</IsTruncated>'
        : `<IsTruncated>true</IsTruncated><NextContinuationToken>${next[0]}</NextContinuationToken>`
    return xml(200, `<ListBucketResult>${more}${entries.join('')}</ListBucketResult>`)
  }

  /** One page of entries after a marker, in order. */
  #page<T>(
    entries: readonly T[],
    nameOf: (entry: T) => string,
    after: string | undefined,
  ): { readonly page: readonly T[]; readonly next: T | undefined } {
    const { pageSize = 1_000 } = this.#options
    const sorted = entries
      .toSorted((one, another) => (nameOf(one) < nameOf(another) ? -1 : 1))
      .filter(entry => after === undefined || nameOf(entry) > after)
    return {
      page: sorted.slice(0, pageSize),
      next: sorted.length > pageSize ? sorted[pageSize - 1] : undefined,
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }
}

function operationOf(method: string, query: URLSearchParams, key: string): S3Operation {
  if (key === '' && query.has('delete')) return 'DeleteObjects'
  if (key === '') return query.has('uploads') ? 'ListMultipartUploads' : 'ListObjectsV2'
  const isUpload = query.has('uploadId')
  if (method === 'POST') return isUpload ? 'CompleteMultipartUpload' : 'CreateMultipartUpload'
  if (method === 'PUT') return isUpload ? 'UploadPart' : 'PutObject'
  if (method === 'DELETE') return isUpload ? 'AbortMultipartUpload' : 'DeleteObject'
  return method === 'HEAD' ? 'HeadObject' : 'GetObject'
}

/** Upload that the request names, or the place at which a listing continues. */
function markerOf(query: URLSearchParams): string | undefined {
  return (
    query.get('uploadId') ?? query.get('upload-id-marker') ?? query.get('continuation-token') ?? undefined
  )
}

function etagOf(bytes: Buffer): string {
  return `"${createHash('md5').update(bytes).digest('hex')}"`
}

function xml(status: number, text: string): Answer {
  const body = Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>\n${text}`)
  return { status, headers: { 'Content-Type': 'application/xml' }, body }
}

function failure(status: number, code: string): Answer {
  return xml(status, `<Error><Code>${code}</Code><Message>as the test wants it</Message></Error>`)
}

function send(response: ServerResponse, { status, headers = {}, body = Buffer.alloc(0) }: Answer): void {
  const length = status === 204 ? {} : { 'Content-Length': String(body.length) }
  response.writeHead(status, { ...headers, ...length })
  response.end(response.req.method === 'HEAD' ? undefined : body)
}

/** Sends the correct answer, with a fault in its headers or its body if one is scripted. */
function sendFaulty(response: ServerResponse, answer: Answer, fault: S3Fault | undefined): void {
  const { status, headers = {}, body = Buffer.alloc(0) } = answer
  if (fault?.kind === 'stall' || fault?.kind === 'cut') {
    response.writeHead(status, { ...headers, 'Content-Length': String(body.length) })
    response.write(body.subarray(0, fault.afterBytes), () => {
      if (fault.kind === 'cut') response.socket?.destroy()
    })
  } else if (fault?.kind === 'short') send(response, { ...answer, body: body.subarray(0, fault.bytes) })
  else if (fault?.kind === 'damage') send(response, { ...answer, body: flipped(body, fault.atByte) })
  else if (fault?.kind === 'etag') send(response, { ...answer, headers: { ...headers, ETag: '"another"' } })
  else send(response, answer)
}

function flipped(body: Buffer, atByte: number): Buffer {
  const damaged = Buffer.from(body)
  const at = Math.min(atByte, damaged.length - 1)
  damaged[at] = (damaged[at] ?? 0) ^ 1
  return damaged
}

async function readAll(request: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of request) pieces.push(piece as Buffer)
  return Buffer.concat(pieces)
}
