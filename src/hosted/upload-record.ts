import { DamagedRecordError, openRecord, sealRecord } from '../content/sealed-record.ts'
import type { DigestAlgorithm } from '../oci/digest.ts'
import { parseRepositoryName } from '../oci/name.ts'
import { parseConfiguredNamespace } from '../oci/namespace.ts'
import type { Place } from '../oci/place.ts'

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
