import type { Clock } from '../lib/clock.ts'
import type { Events } from '../observe/events.ts'
import type { Content, Outcome } from '../oci/content.ts'
import type { Digest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import { OCTET_STREAM } from '../oci/media-type.ts'
import { passThrough } from './bypass.ts'
import { Download, type Wanted } from './download.ts'
import type { Fills } from './fills.ts'
import type { Links } from './links.ts'
import type { Proofs } from './proofs.ts'
import type { Source } from './sources.ts'
import type { Spool } from './spool.ts'

/** What {@link Blobs} works with. */
export interface BlobParts {
  readonly fills: Fills
  readonly links: Links
  readonly proofs: Proofs
  readonly events: Events
  readonly clock: Clock
  /** Aborts when the daemon ends. */
  readonly lifetime: AbortSignal
}

/** A blob to be served, and where it came from. */
export interface ServedBlob {
  readonly content: Content
  readonly outcome: Outcome
}

const NOTHING = new Uint8Array(0)

/** The ways in which a blob can be had: from the store, by joining or starting a fill, or straight through. */
export class Blobs {
  readonly #parts: BlobParts

  constructor(parts: BlobParts) {
    this.#parts = parts
  }

  /** The stored blob. A store that cannot tell is a store without it: the pull goes on. */
  async openStored(digest: Digest): Promise<Content | undefined> {
    try {
      return await this.#parts.proofs.open(digest)
    } catch (error) {
      this.#parts.events.storageFailed('open', error)
      return undefined
    }
  }

  /** Cached bytes are shown only to a repository that is known, or confirmed by its upstream now, to have them. */
  async requireLink(source: Source, digest: Digest): Promise<void> {
    const { links, lifetime } = this.#parts
    if (await links.has(source, digest)) return
    const head = await source.registry.headBlob(source.repository, digest, lifetime)
    if (head === undefined) throw blobUnknown(source, digest)
    links.add(source, [digest])
  }

  /** The blob as it comes from the upstream, in one fetch for all who want it. */
  async fetch(wanted: Wanted): Promise<ServedBlob> {
    const { source, digest } = wanted
    if (this.#parts.fills.isRunning(source.namespace, digest)) await this.requireLink(source, digest)
    const { fill, leave, isNew } = this.#parts.fills.enter(wanted)
    try {
      const opening = await fill.opening
      if (opening.kind === 'absent') throw blobUnknown(source, digest)
      if (opening.kind === 'open') {
        this.#parts.links.add(source, [digest])
        return { content: spoolContent(opening.spool, digest, leave), outcome: isNew ? 'miss' : 'joined' }
      }
    } catch (error) {
      leave()
      throw error
    }
    leave()
    return await this.#passThrough(wanted)
  }

  /** For when there is nowhere to put the bytes: each client has a download of its own. */
  async #passThrough(wanted: Wanted): Promise<ServedBlob> {
    const { lifetime, links } = this.#parts
    const left = new AbortController()
    const download = new Download(
      this.#parts,
      wanted,
      Download.start(wanted.digest),
      AbortSignal.any([lifetime, left.signal]),
    )
    if (!(await download.open())) throw blobUnknown(wanted.source, wanted.digest)
    links.add(wanted.source, [wanted.digest])
    const content: Content = {
      digest: wanted.digest,
      mediaType: OCTET_STREAM,
      sizeBytes: download.sizeBytes,
      read: (range, signal) => passThrough(download, range, NOTHING, signal),
      [Symbol.asyncDispose]: async () => {
        left.abort(new Error('the client is done'))
        await download.close()
      },
    }
    return { content, outcome: 'bypass' }
  }
}

function spoolContent(spool: Spool, digest: Digest, leave: () => void): Content {
  return {
    digest,
    mediaType: OCTET_STREAM,
    get sizeBytes() {
      return spool.sizeBytes
    },
    read: (range, signal) => spool.read(range, signal),
    [Symbol.asyncDispose]: async () => {
      leave()
      await Promise.resolve()
    },
  }
}

/** What a client hears when neither we nor the upstream have the blob. */
export function blobUnknown(source: Source, digest: Digest): OciError {
  return new OciError('BLOB_UNKNOWN', `${source.namespace}/${source.repository} has no blob ${digest}`)
}
