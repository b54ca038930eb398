import type { Inspection } from '../content/inspection.ts'
import { type Ledger, NO_LEDGER, NoRoomError } from '../content/ledger.ts'
import type { Links } from '../content/links.ts'
import type { StoredManifest, StoredManifests } from '../content/stored-manifests.ts'
import type { Tags } from '../content/tags.ts'
import type { Clock } from '../lib/clock.ts'
import { algorithmOf, type Digest, digestOf, finishHash, matchesDigest, startHash } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import { type Descriptor, ManifestError, parseManifest } from '../oci/manifest.ts'
import type { Tag } from '../oci/name.ts'
import type { Reference } from '../oci/reference.ts'
import type { SpoolFile, Store } from '../storage/store.ts'
import type { Manifests } from './manifests.ts'
import type { Source } from './sources.ts'

export interface IntakeParts {
  readonly store: Store
  readonly stored: StoredManifests
  readonly links: Links
  readonly tags: Tags
  readonly manifests: Manifests
  readonly inspection: Inspection
  readonly clock: Pick<Clock, 'wallMs'>
  readonly ledger?: Pick<Ledger, 'makeRoom'>
}

/** A manifest that an administrator brings. */
export interface BroughtManifest {
  readonly reference: Reference
  readonly bytes: Uint8Array
  /** When the upstream confirmed the tag of the reference. */
  readonly confirmedAtMs: number
  /** True if nothing is to be changed. */
  readonly isDryRun: boolean
}

/** What became of a manifest that was brought. */
export interface TakenManifest {
  readonly digest: Digest
  readonly isNew: boolean
  /** Blobs that it names and that the repository does not have. */
  readonly missing: readonly Pick<Descriptor, 'digest' | 'sizeBytes'>[]
  /** `kept`: the tag was confirmed later than that, or is held. */
  readonly tag?: 'set' | 'same' | 'kept' | undefined
}

/**
 * Takes content into the cache that an administrator brings from the cache of another program. It counts as
 * if the upstream had sent it, and is proved in the same way.
 */
export class Intake {
  readonly #parts: IntakeParts

  constructor(parts: IntakeParts) {
    this.#parts = parts
  }

  /** Throws MANIFEST_INVALID or DIGEST_INVALID, and UNAVAILABLE if it cannot be stored. */
  async manifest(source: Source, brought: BroughtManifest): Promise<TakenManifest> {
    const { stored, links, manifests } = this.#parts
    const { reference, isDryRun } = brought
    const manifest = provedManifest(brought)
    const { digest } = manifest
    const isNew = !(await links.has(source, digest)) || (await stored.find(digest)) === undefined
    const missing = await this.#missingOf(source, manifest)
    if (isNew && !isDryRun) {
      if (!(await stored.store(manifest, source.namespace))) throw noRoom()
      manifests.admit(source, manifest)
    }
    const tag =
      reference.kind === 'tag' ? await this.#tag(source, reference.tag, { ...brought, digest }) : undefined
    return { digest, isNew, missing, tag }
  }

  /** Throws DIGEST_INVALID if the bytes are others, and UNAVAILABLE if there is no room for them. */
  async blob(
    source: Source,
    digest: Digest,
    {
      pieces,
      sizeBytes,
    }: { readonly pieces: AsyncIterable<Uint8Array>; readonly sizeBytes: number | undefined },
  ): Promise<void> {
    const { store, links, ledger = NO_LEDGER } = this.#parts
    const { namespace, repository, isTrusted } = source
    await using spool = await store.createSpool(digest, isTrusted ? undefined : `${namespace}/${repository}`)
    await spool.clear()
    if (!(await ledger.makeRoom(spool, { namespace, digest, sizeBytes }))) throw noRoom()
    const actual = await fill(spool, digest, pieces)
    if (actual !== digest) throw new OciError('DIGEST_INVALID', `the bytes hash to ${actual}`)
    await store.adopt(spool, digest, spool.sizeBytes)
    if (isTrusted) links.add(source, [digest])
    else links.prove(source, digest)
  }

  /** A repository of a registry that is not configured has only what was brought for it. */
  async #missingOf(source: Source, { blobs }: StoredManifest): Promise<TakenManifest['missing']> {
    const { inspection, links } = this.#parts
    const missing: Pick<Descriptor, 'digest' | 'sizeBytes'>[] = []
    for (const { digest, sizeBytes } of blobs) {
      const isHere =
        (source.isTrusted || (await links.has(source, digest))) && (await inspection.isStored(digest))
      if (!isHere) missing.push({ digest, sizeBytes })
    }
    return missing
  }

  async #tag(
    source: Source,
    tag: Tag,
    { digest, confirmedAtMs, isDryRun }: BroughtManifest & { readonly digest: Digest },
  ): Promise<TakenManifest['tag']> {
    const { tags, clock } = this.#parts
    const ageMs = Math.max(0, clock.wallMs() - confirmedAtMs)
    const known = await tags.read(source, tag)
    if (known?.digest === digest) return 'same'
    if (known !== undefined && (known.heldBy !== undefined || known.ageMs <= ageMs)) return 'kept'
    if (!isDryRun) await tags.write(source, tag, digest, ageMs)
    return 'set'
  }
}

function provedManifest({ reference, bytes }: BroughtManifest): StoredManifest {
  const digest = reference.kind === 'digest' ? reference.digest : digestOf(bytes)
  if (!matchesDigest(bytes, digest))
    throw new OciError('DIGEST_INVALID', `the bytes do not hash to ${digest}`)
  try {
    return { ...parseManifest(bytes), digest, bytes }
  } catch (cause) {
    if (cause instanceof ManifestError) throw new OciError('MANIFEST_INVALID', cause.message, { cause })
    throw cause
  }
}

/** Writes all pieces, and returns the digest of their bytes. */
async function fill(spool: SpoolFile, digest: Digest, pieces: AsyncIterable<Uint8Array>): Promise<Digest> {
  const algorithm = algorithmOf(digest)
  const hash = startHash(algorithm)
  try {
    for await (const piece of pieces) {
      hash.update(piece)
      await spool.append(piece)
    }
  } catch (error) {
    throw error instanceof NoRoomError ? noRoom() : error
  }
  return finishHash(hash, algorithm)
}

function noRoom(): OciError {
  return new OciError(
    'UNAVAILABLE',
    'the cache cannot take it now: it has no room, or its store takes nothing',
  )
}
