import { type Digest, parseDigest } from '../oci/digest.ts'
import { DamagedRecordError, openRecord, sealRecord } from './sealed-record.ts'

/**
 * Record of a mirrored tag: its digest, the time the upstream last confirmed it, and the time the upstream
 * reported it gone. `heldBy` names the administrator who fixed it to the digest, whatever the upstream says.
 */
export interface TagRecord {
  readonly digest: Digest
  readonly checkedAtMs: number
  readonly lostAtMs: number | undefined
  readonly heldBy: string | undefined
}

export function writeTagRecord({ digest, checkedAtMs, lostAtMs, heldBy }: TagRecord): Uint8Array {
  const iso = (atMs: number): string => new Date(atMs).toISOString()
  const lostAt = lostAtMs === undefined ? undefined : iso(lostAtMs)
  return sealRecord({ digest, checkedAt: iso(checkedAtMs), lostAt, heldBy })
}

/** Throws a {@link DamagedRecordError} if the bytes are not a tag record. */
export function readTagRecord(bytes: Uint8Array): TagRecord {
  const fields = openRecord(bytes).value as {
    digest?: unknown
    checkedAt?: unknown
    lostAt?: unknown
    heldBy?: unknown
  } | null
  const digest = parseDigest(String(fields?.digest))
  const checkedAtMs = Date.parse(String(fields?.checkedAt))
  const lostAtMs = Date.parse(String(fields?.lostAt))
  if (digest === undefined || Number.isNaN(checkedAtMs))
    throw new DamagedRecordError('the digest or the time is invalid')
  const heldBy = typeof fields?.heldBy === 'string' ? fields.heldBy : undefined
  return { digest, checkedAtMs, lostAtMs: Number.isNaN(lostAtMs) ? undefined : lostAtMs, heldBy }
}

/** The manifest that a hosted tag names, since when, and who set it. */
export interface HostedTag {
  readonly digest: Digest
  readonly movedAtMs: number
  readonly by: string | undefined
}

export function writeHostedTag({ digest, movedAtMs, by }: HostedTag): Uint8Array {
  return sealRecord({ digest, movedAt: new Date(movedAtMs).toISOString(), by })
}

/** Throws a {@link DamagedRecordError} if the bytes are not the record of a hosted tag. */
export function readHostedTag(bytes: Uint8Array): HostedTag {
  const fields = openRecord(bytes).value as { digest?: unknown; movedAt?: unknown; by?: unknown } | null
  const digest = parseDigest(String(fields?.digest))
  const movedAtMs = Date.parse(String(fields?.movedAt))
  if (digest === undefined || Number.isNaN(movedAtMs))
    throw new DamagedRecordError('the digest or the time is invalid')
  return { digest, movedAtMs, by: typeof fields?.by === 'string' ? fields.by : undefined }
}
