import type { Asked } from '../../content/answering.ts'
import type { Hosting, PartOutcome, UploadPart, UploadState } from '../../content/hosting.ts'
import { type Digest, parseDigest } from '../../oci/digest.ts'
import { OciError } from '../../oci/error.ts'
import { MANIFEST_SIZE_MAX } from '../../oci/manifest.ts'
import { type NameRules, type Place, type RequestedName, resolvePlace } from '../../oci/place.ts'
import type { HttpExchange } from '../exchange.ts'
import { failureBody } from '../failure.ts'
import { jsonReply, type Reply } from '../reply.ts'
import { dropRest, type RequestBody, readSmallBody } from '../request-body.ts'
import type { PushRoute } from '../route.ts'

/** Everything that the answer to a push depends on. */
interface Push {
  readonly hosting: Hosting
  readonly asked: Asked
  readonly names: NameRules
  readonly mayPull: (place: Place) => boolean
}

/** Answers a request that changes a hosted repository, or asks for the state of an upload. */
export async function answerPush(
  push: Push,
  route: PushRoute,
  { body }: Pick<HttpExchange, 'body'>,
): Promise<Reply> {
  return await withRestDropped(await answer(push, route, body), body)
}

async function answer(push: Push, route: PushRoute, body: RequestBody): Promise<Reply> {
  const { hosting, asked } = push
  switch (route.kind) {
    case 'begin-upload':
      return await beginUpload(push, route, body)
    case 'upload-state':
      return stateReply(204, route.name, await hosting.uploadState(asked, route.id))
    case 'append-upload':
      return partReply(route.name, await hosting.appendUpload(asked, route.id, partOf(body)), 202)
    case 'finish-upload': {
      const { id, name } = route
      const digest = requireDigest(route.digests)
      const outcome = await hosting.finishUpload(asked, { id, digest }, partOf(body))
      return outcome === undefined ? createdReply(name, 'blobs', digest) : partReply(name, outcome, 202)
    }
    case 'cancel-upload':
      await hosting.cancelUpload(asked, route.id)
      return emptyReply(204)
    case 'push-manifest':
      return await pushManifest(push, route, body)
    case 'delete-manifest':
      await hosting.deleteManifest(asked, route.reference)
      return emptyReply(202)
    case 'delete-blob':
      await hosting.deleteBlob(asked, route.digest)
      return emptyReply(202)
    default:
      return route satisfies never
  }
}

/** `POST …/blobs/uploads/`: a mount, a whole blob, or the beginning of an upload. */
async function beginUpload(
  { hosting, asked, names, mayPull }: Push,
  { name, mount, from, digests, algorithm }: Extract<PushRoute, { kind: 'begin-upload' }>,
  body: RequestBody,
): Promise<Reply> {
  if (mount !== undefined) {
    const digest = requireDigest([mount])
    const source = from === undefined ? undefined : placeNamed(names, { ...name, path: from })
    const isPossible = from === undefined || source !== undefined
    if (isPossible && (await hosting.mountBlob(asked, { digest, from: source, mayPull })))
      return createdReply(name, 'blobs', digest)
  } else if (digests.length > 0) {
    const digest = requireDigest(digests)
    await hosting.pushBlob(asked, digest, body)
    return createdReply(name, 'blobs', digest)
  }
  return stateReply(202, name, await hosting.beginUpload(asked, algorithm))
}

async function pushManifest(
  { hosting, asked }: Push,
  { name, reference, tags }: Extract<PushRoute, { kind: 'push-manifest' }>,
  body: RequestBody,
): Promise<Reply> {
  const bytes = await readSmallBody(body, 'manifest', MANIFEST_SIZE_MAX)
  const contentType = body.request.headers['content-type']
  const { digest, subject, warnings } = await hosting.pushManifest(asked, {
    reference,
    tags,
    bytes,
    contentType,
  })
  const reply = createdReply(name, 'manifests', digest)
  return {
    ...reply,
    headers: {
      ...reply.headers,
      ...(subject === undefined ? {} : { 'OCI-Subject': subject }),
      ...(tags.length === 0 ? {} : { 'OCI-Tag': tags.join(', ') }),
      ...(warnings.length === 0 ? {} : { Warning: warnings.map(warningText).join(', ') }),
    },
  }
}

/** Most bytes of all warnings together, as the distribution specification has it. */
const WARNING_BYTES_MAX = 1024

function warningText(text: string): string {
  const plain = text.replaceAll(/[^\x20-\x7e]/g, '?').replaceAll(/["\\]/g, "'")
  return `299 - "${plain.slice(0, WARNING_BYTES_MAX)}"`
}

function partReply(name: RequestedName, outcome: PartOutcome, status: number): Reply {
  if (outcome.kind === 'taken') return stateReply(status, name, outcome)
  const message = `this part does not begin where the upload has got to, at byte ${outcome.receivedBytes}`
  const body = failureBody({ code: 'BLOB_UPLOAD_INVALID', message })
  return jsonReply(416, body, stateHeaders(name, outcome))
}

function stateReply(status: number, name: RequestedName, state: UploadState): Reply {
  const { headers, ...reply } = emptyReply(status)
  return { ...reply, headers: { ...headers, ...stateHeaders(name, state) } }
}

/** Docker refuses a range whose end is before its start, so an empty upload says `0-0`. */
function stateHeaders(name: RequestedName, { id, receivedBytes }: UploadState): Record<string, string> {
  return {
    Location: pathOf(name, `blobs/uploads/${id}`),
    Range: `0-${Math.max(0, receivedBytes - 1)}`,
    'Docker-Upload-UUID': id,
  }
}

function createdReply(name: RequestedName, kind: 'blobs' | 'manifests', digest: Digest): Reply {
  const { headers, ...reply } = emptyReply(201)
  const location = pathOf(name, `${kind}/${digest}`)
  return { ...reply, headers: { ...headers, Location: location, 'Docker-Content-Digest': digest } }
}

/**
 * A location relative to this server: what stands before it (a host, a scheme, a port) is the client's
 * business, and proxies change it.
 */
function pathOf({ prefix, path, ns }: RequestedName, rest: string): string {
  const query = ns.length === 0 ? '' : `?${new URLSearchParams(ns.map(value => ['ns', value])).toString()}`
  return `${prefix === undefined ? '' : `/${prefix}`}/v2/${path}/${rest}${query}`
}

function emptyReply(status: number): Reply {
  const headers: Record<string, string> = status === 204 ? {} : { 'Content-Length': '0' }
  return { status, headers, body: { kind: 'none' }, outcome: undefined }
}

function requireDigest(texts: readonly string[]): Digest {
  const [text] = texts
  if (text === undefined) throw new OciError('DIGEST_INVALID', 'the request names no digest')
  if (texts.length > 1) throw new OciError('DIGEST_INVALID', 'the request names more than one digest')
  const digest = parseDigest(text)
  if (digest === undefined)
    throw new OciError(
      'DIGEST_INVALID',
      'this is not a digest: sha256 or sha512 in lower-case hex is understood',
    )
  return digest
}

/** A part of an upload: its place is in `Content-Range`, as the distribution specification writes it. */
function partOf(body: RequestBody): UploadPart {
  const range = body.request.headers['content-range']
  if (range === undefined) return { ...body, start: undefined }
  const [, first, last] = /^(?:bytes[ =])?([0-9]{1,15})-([0-9]{1,15})(?:\/(?:[0-9]+|\*))?$/.exec(range) ?? []
  if (first === undefined || last === undefined)
    throw new OciError('BLOB_UPLOAD_INVALID', 'Content-Range is not of the form <first>-<last>')
  const sizeBytes = Number(last) - Number(first) + 1
  if (sizeBytes <= 0 || (body.sizeBytes !== undefined && body.sizeBytes !== sizeBytes))
    throw new OciError('SIZE_INVALID', 'Content-Range and Content-Length disagree')
  return { ...body, sizeBytes, start: Number(first) }
}

/** `undefined` if the name is not valid. */
function placeNamed(names: NameRules, name: RequestedName): Place | undefined {
  try {
    return resolvePlace(names, name)
  } catch (error) {
    if (error instanceof OciError) return undefined
    throw error
  }
}

async function withRestDropped(reply: Reply, body: RequestBody): Promise<Reply> {
  if (await dropRest(body)) return reply
  return { ...reply, headers: { ...reply.headers, Connection: 'close' } }
}
