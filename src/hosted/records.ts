import { DamagedRecordError, openRecord, sealRecord } from '../content/sealed-record.ts'
import type { DigestAlgorithm } from '../oci/digest.ts'
import { parseRepositoryName } from '../oci/name.ts'
import { parseConfiguredNamespace } from '../oci/namespace.ts'
import type { Place } from '../oci/place.ts'

/**
 * Content of a hosted repository. `claimedAtMs` is when a client that may push last learned that the content
 * is here: it may rely on that for a day, so the content stays that long even if nothing names it.
 */
export interface HostedContent {
  readonly sizeBytes: number
  /** Type of a manifest; `undefined` for a blob. */
  readonly mediaType: string | undefined
  readonly pushedAtMs: number
  readonly claimedAtMs: number
  readonly by: string | undefined
}

export function writeHostedContent(content: HostedContent): Uint8Array {
  const { sizeBytes, mediaType, pushedAtMs, claimedAtMs, by } = content
  return sealRecord({
    sizeBytes,
    mediaType,
    pushedAt: isoText(pushedAtMs),
    claimedAt: isoText(claimedAtMs),
    by,
  })
}

/** Throws a {@link DamagedRecordError} if the bytes are not the record of a manifest or a blob. */
export function readHostedContent(bytes: Uint8Array): HostedContent {
  const fields = fieldsOf(bytes)
  const sizeBytes = Number(fields['sizeBytes'])
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) throw new DamagedRecordError('the size is invalid')
  return {
    sizeBytes,
    mediaType: textOf(fields['mediaType']),
    pushedAtMs: timeOf(fields['pushedAt']),
    claimedAtMs: timeOf(fields['claimedAt']),
    by: textOf(fields['by']),
  }
}

/** An upload that has begun, as its record says. */
export interface UploadRecord {
  readonly place: Place
  /** The algorithm of the digest that the client will name, if it said so. */
  readonly algorithm: DigestAlgorithm
  /** When a request last moved it on, by the wall clock. */
  readonly touchedAtMs: number
  /** Bytes that survive a power cut. */
  readonly syncedBytes: number
}

export function writeUploadRecord({ place, algorithm, touchedAtMs, syncedBytes }: UploadRecord): Uint8Array {
  const { namespace, repository } = place
  return sealRecord({
    namespace,
    repository,
    algorithm,
    touchedAt: new Date(touchedAtMs).toISOString(),
    syncedBytes,
  })
}

/** Throws a {@link DamagedRecordError} if the bytes are not the record of an upload. */
export function readUploadRecord(bytes: Uint8Array): UploadRecord {
  const fields = (openRecord(bytes).value ?? {}) as Record<string, unknown>
  const namespace = parseConfiguredNamespace(String(fields['namespace']))
  const repository = parseRepositoryName(String(fields['repository']))
  const touchedAtMs = Date.parse(String(fields['touchedAt']))
  const syncedBytes = Number(fields['syncedBytes'])
  const { algorithm } = fields as { algorithm?: unknown }
  const isSound = Number.isSafeInteger(syncedBytes) && syncedBytes >= 0 && !Number.isNaN(touchedAtMs)
  const isKnown = algorithm === 'sha256' || algorithm === 'sha512'
  if (namespace === undefined || repository === undefined || !isSound || !isKnown)
    throw new DamagedRecordError('this is not an upload')
  return { place: { namespace, repository }, algorithm, touchedAtMs, syncedBytes }
}

function fieldsOf(bytes: Uint8Array): Record<string, unknown> {
  const { value } = openRecord(bytes)
  if (typeof value !== 'object' || value === null) throw new DamagedRecordError('this is not an object')
  return value as Record<string, unknown>
}

function isoText(atMs: number): string {
  return new Date(atMs).toISOString()
}

function timeOf(value: unknown): number {
  const atMs = Date.parse(String(value))
  if (Number.isNaN(atMs)) throw new DamagedRecordError('the time is invalid')
  return atMs
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}
