import type { Ledger } from '../content/ledger.ts'
import type { Links } from '../content/links.ts'
import type { StoredManifest, StoredManifests } from '../content/stored-manifests.ts'
import type { Tags } from '../content/tags.ts'
import { SharedCalls } from '../lib/flights.ts'
import { type Digest, digestOf, matchesDigest } from '../oci/digest.ts'
import { OciError, overloaded, UpstreamError } from '../oci/error.ts'
import { ManifestError, parseManifest } from '../oci/manifest.ts'
import { isForeignLayer } from '../oci/media-type.ts'
import { type Reference, referenceText } from '../oci/reference.ts'
import type { FetchedManifest } from '../upstream/registry.ts'
import { questionKey, type Source } from './sources.ts'

const FETCHES_MAX = 4096

export interface ManifestsParts {
  readonly stored: StoredManifests
  readonly links: Links
  readonly tags: Tags
  /** Aborts when the daemon ends. */
  readonly lifetime: AbortSignal
  readonly ledger?: Pick<Ledger, 'shown' | 'announced'>
}

/**
 * Manifests of upstreams: fetched once for all requests that wait, proved, stored, and made visible to the
 * repository they were fetched for.
 */
export class Manifests {
  readonly #parts: ManifestsParts
  readonly #fetches = new SharedCalls<StoredManifest | undefined>(FETCHES_MAX, overloaded)

  constructor(parts: ManifestsParts) {
    this.#parts = parts
  }

  /**
   * Returns the manifest if it is stored and the source is trusted or has sent it before. Does not check if
   * the repository may see it.
   */
  async findFor(source: Source, digest: Digest): Promise<StoredManifest | undefined> {
    const { stored, links } = this.#parts
    if (!source.isTrusted && !(await links.has(source, digest))) return undefined
    return await stored.find(digest)
  }

  /**
   * Fetches a manifest from the upstream, proves and stores it, and makes what it names visible to the
   * repository. One fetch serves all requests that arrive while it runs. The answer is the same if it cannot
   * be stored.
   */
  async fetch(source: Source, reference: Reference): Promise<StoredManifest | undefined> {
    const key = questionKey(source, `@${referenceText(reference)}`)
    return await this.#fetches.call(key, async () => await this.#fetch(source, reference)).job
  }

  /**
   * Makes a manifest that the registry has visible to the repository, and everything that it names if the
   * registry is trusted.
   */
  admit(source: Source, manifest: StoredManifest): void {
    const { links, ledger } = this.#parts
    if (source.isTrusted) links.add(source, digestsOf(manifest))
    else links.prove(source, manifest.digest)
    if (source.isTrusted) ledger?.announced(manifest)
    ledger?.shown(manifest)
  }

  async #fetch(source: Source, reference: Reference): Promise<StoredManifest | undefined> {
    const { stored, lifetime, tags } = this.#parts
    const fetched = await source.registry.getManifest(source.repository, reference, lifetime)
    if (fetched === undefined) return undefined
    const manifest = proveManifest(fetched, reference)
    const isStored = await stored.store(manifest, source.namespace, fetched.isKept)
    this.admit(source, manifest)
    if (isStored) await tags.confirm(source, manifest.digest)
    return manifest
  }
}

/**
 * Digests of the manifest and of everything that it names. Foreign layers are left out: their registry does
 * not look for them when a manifest is pushed.
 */
function digestsOf(manifest: StoredManifest): readonly Digest[] {
  const blobs = manifest.blobs.filter(({ mediaType }) => !isForeignLayer(mediaType))
  return [manifest.digest, ...[...blobs, ...manifest.manifests].map(descriptor => descriptor.digest)]
}

/** Compares the bytes with the requested digest and with the digest that the upstream claims. */
function proveManifest(fetched: FetchedManifest, reference: Reference): StoredManifest {
  const { bytes, claimedDigest, contentType } = fetched
  const asked = reference.kind === 'digest' ? reference.digest : claimedDigest
  if (asked !== undefined && !matchesDigest(bytes, asked)) {
    throw new UpstreamError('invalid', `the upstream sent a manifest that is not ${asked}`)
  }
  if (claimedDigest !== undefined && !matchesDigest(bytes, claimedDigest)) {
    throw new UpstreamError(
      'invalid',
      'the upstream sent a manifest that contradicts its own Docker-Content-Digest',
    )
  }
  try {
    return { ...parseManifest(bytes, contentType), digest: asked ?? digestOf(bytes), bytes }
  } catch (cause) {
    if (!(cause instanceof ManifestError)) throw cause
    throw new UpstreamError(
      'invalid',
      `the upstream sent a manifest that cannot be served: ${cause.message}`,
      {
        cause,
      },
    )
  }
}

/** Error for a manifest that neither the cache nor the upstream has. */
export function manifestUnknown(source: Source, reference: Reference): OciError {
  const name = `${source.namespace}/${source.repository}`
  return new OciError('MANIFEST_UNKNOWN', `${name} has no manifest ${referenceText(reference)}`)
}
