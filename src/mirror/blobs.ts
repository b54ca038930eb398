import type { Links } from '../content/links.ts'
import type { Proofs, StoredContent } from '../content/proofs.ts'
import type { Clock } from '../lib/clock.ts'
import { SharedCalls } from '../lib/flights.ts'
import type { Events } from '../observe/events.ts'
import type { ByteRange, Content, Outcome } from '../oci/content.ts'
import type { Digest } from '../oci/digest.ts'
import { OciError, overloaded, UpstreamError } from '../oci/error.ts'
import { OCTET_STREAM } from '../oci/media-type.ts'
import type { BlobHead } from '../upstream/registry.ts'
import type { Wanted } from './fill/download.ts'
import type { Fill } from './fill/fill.ts'
import type { Fills } from './fill/fills.ts'
import type { Opening } from './fill/opening.ts'
import type { Spool } from './fill/spool.ts'
import { questionKey, type Source } from './sources.ts'

export interface BlobParts {
  readonly fills: Fills
  /** Send a range of a running fill only after the whole blob is proved. */
  readonly provesRanges?: boolean
  readonly links: Links
  readonly proofs: Proofs
  readonly events: Events
  readonly clock: Clock
  /** Aborts when the daemon ends. */
  readonly lifetime: AbortSignal
}

/** Number of times {@link Blobs.pull} looks for a blob that other fills are storing. */
const LOOKS_MAX = 3
const QUESTIONS_MAX = 4096

/** A blob to serve, and where it came from. */
export interface ServedBlob {
  readonly content: Content
  readonly outcome: Outcome
}

/** Serves blobs: from the store, by joining or starting a fill, or straight through from the upstream. */
export class Blobs {
  readonly #parts: BlobParts
  readonly #questions = new SharedCalls<BlobHead | undefined>(QUESTIONS_MAX, overloaded)

  constructor(parts: BlobParts) {
    this.#parts = parts
  }

  /** Opens the stored blob. A store that fails counts as a store without the blob: the pull continues. */
  async openStored(digest: Digest): Promise<StoredContent | undefined> {
    try {
      return await this.#parts.proofs.open(digest)
    } catch (error) {
      this.#parts.events.storageFailed('open', error)
      return undefined
    }
  }

  /**
   * Asks the upstream by one HEAD for all clients that wait. Throws BLOB_UNKNOWN if the upstream does not
   * have the blob.
   */
  async ask(source: Source, digest: Digest): Promise<BlobHead> {
    const { links, lifetime } = this.#parts
    const ask = async (): Promise<BlobHead | undefined> =>
      await source.registry.headBlob(source.repository, digest, lifetime)
    const head = await this.#questions.call(questionKey(source, `@${digest}`), ask).job
    if (head === undefined) throw blobUnknown(source, digest)
    if (source.isTrusted) links.add(source, [digest])
    return head
  }

  /**
   * Requires that the repository is known to have the blob, or that its upstream confirms it now. A
   * repository must not see bytes that were cached for another one.
   */
  async #requireLink(source: Source, digest: Digest): Promise<void> {
    if (!(await this.#parts.links.has(source, digest))) await this.ask(source, digest)
  }

  /**
   * Asks a configured registry before the store is looked into, so that the time of a refusal does not reveal
   * whether another repository has the blob cached. A registry that cannot answer a HEAD is asked by GET
   * later.
   */
  async #askFirst({ source, digest }: Wanted): Promise<void> {
    if (!source.isTrusted) return
    try {
      await this.#requireLink(source, digest)
    } catch (error) {
      if (!(error instanceof UpstreamError) || error.kind !== 'status' || isLoop(error)) throw error
    }
  }

  /**
   * Returns the blob: from the store if this repository may see it, otherwise as it arrives from the
   * upstream, in one fetch for all requests.
   */
  async pull(wanted: Wanted): Promise<ServedBlob> {
    return (await this.pullShared(wanted)) ?? (await this.#passThrough(wanted))
  }

  /** Like {@link pull}; `undefined` if this request would need a download of its own. */
  async pullShared(wanted: Wanted): Promise<ServedBlob | undefined> {
    await this.#askFirst(wanted)
    for (let look = 0; look < LOOKS_MAX; look += 1) {
      const stored = (await this.#isVisible(wanted)) ? await this.openStored(wanted.digest) : undefined
      if (stored !== undefined) return await this.#show(wanted, stored)
      const fetched = await this.#fetch(wanted)
      if (fetched === 'unspoolable') break
      if (fetched !== undefined) return fetched
    }
    return undefined
  }

  /**
   * True if the stored blob may be used. The claim of an unconfigured registry is not enough: its blob is
   * fetched from there.
   */
  async #isVisible({ source, digest }: Wanted): Promise<boolean> {
    return source.isTrusted || (await this.#parts.links.has(source, digest))
  }

  async #show(wanted: Wanted, stored: StoredContent): Promise<ServedBlob> {
    try {
      await this.#requireLink(wanted.source, wanted.digest)
    } catch (error) {
      await stored[Symbol.asyncDispose]()
      throw error
    }
    return { content: this.#healing(wanted, stored), outcome: 'hit' }
  }

  /**
   * Joins or starts a fill. Returns `undefined` if the caller should look again: another fill has stored the
   * blob since, or failed to open it for its own repository. `unspoolable`: it cannot be stored.
   */
  async #fetch(wanted: Wanted): Promise<ServedBlob | 'unspoolable' | undefined> {
    const { source, digest } = wanted
    const { links, fills, proofs } = this.#parts
    const wasLinked = await links.has(source, digest)
    const trouble = fills.running(source.namespace, digest) ?? source.registry.trouble(source.repository)
    if (trouble instanceof UpstreamError) {
      // A new fill would fail at once, but the last one may have stored the blob a moment ago.
      if (await proofs.holds(digest)) return undefined
      throw trouble
    }
    // If no fill is running, nothing may be awaited before `enter`: another request could start a fill in
    // between.
    const running = fills.running(source.namespace, digest)
    if (running !== undefined && !isFor(running, source)) await this.#requireLink(source, digest)
    // The fill of another request may have ended meanwhile. The bytes that it proved for this repository need
    // not be fetched again.
    const isStranger = !wasLinked && !links.remembers(source, digest)
    const { fill, leave, isNew } = fills.enter({ ...wanted, isStranger })
    let opening: Opening
    try {
      opening = await fill.opening
      if (opening.kind === 'absent') throw blobUnknown(source, digest)
    } catch (error) {
      leave()
      // The upstream answered another repository, or a request that came round in a loop of mirrors. Neither
      // answer is about this request.
      if (!isNew && (!isFor(fill, source) || isLoop(error))) return undefined
      throw error
    }
    if (opening.kind === 'open') {
      if (source.isTrusted) links.add(source, [digest])
      else void fill.proof.then(isProved => (isProved ? links.prove(source, digest) : undefined))
      const content = spoolContent(opening.spool, digest, leave)
      const shown = this.#parts.provesRanges === true ? provingRanges(content, fill) : content
      return { content: shown, outcome: isNew ? 'miss' : 'joined' }
    }
    leave()
    return opening.kind === 'stored' ? undefined : 'unspoolable'
  }

  /** Serves the blob when it cannot be stored: each client has its own download. */
  async #passThrough(wanted: Wanted): Promise<ServedBlob> {
    const { lifetime, links, fills } = this.#parts
    const content = await fills.bypass.open(wanted, lifetime)
    if (content === undefined) throw blobUnknown(wanted.source, wanted.digest)
    if (wanted.source.isTrusted) links.add(wanted.source, [wanted.digest])
    const { provesRanges = false } = this.#parts
    return { content: provesRanges ? wholeOnly(content) : content, outcome: 'bypass' }
  }

  /** Stored content that continues from the upstream if the store fails during a read. */
  #healing(wanted: Wanted, stored: StoredContent): Content {
    if (stored.bytes !== undefined) return stored
    return {
      ...stored,
      read: (range, signal, isContinued = false) =>
        this.#readHealing({ wanted, stored, isContinued }, range, signal),
    }
  }

  async *#readHealing(
    {
      wanted,
      stored,
      isContinued,
    }: { readonly wanted: Wanted; readonly stored: StoredContent; readonly isContinued: boolean },
    range: ByteRange,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    let offset = range.start
    let failure: unknown
    try {
      for await (const piece of stored.read(range, signal)) {
        offset += piece.byteLength
        yield piece
      }
      return
    } catch (error) {
      failure = error
    }
    // Unproved bytes that were already sent must not be completed by right bytes.
    if ((isContinued || offset > range.start) && !stored.isProved()) throw failure
    const fetched = await this.#fetch(wanted)
    const isShared = fetched !== undefined && fetched !== 'unspoolable'
    await using rest = (isShared ? fetched : await this.#passThrough(wanted)).content
    if (rest.sizeBytes !== stored.sizeBytes) throw failure
    yield* rest.read({ start: offset, end: range.end }, signal)
  }
}

/**
 * True if the fill is for this repository, so that the answer of its upstream is the answer for this source.
 */
function isFor(fill: Fill, { repository }: Source): boolean {
  return fill.wanted.source.repository === repository
}

function isLoop(error: unknown): boolean {
  return error instanceof UpstreamError && error.status === 508
}

function spoolContent(spool: Spool, digest: Digest, leave: () => void): Content {
  return {
    digest,
    mediaType: OCTET_STREAM,
    get sizeBytes() {
      return spool.sizeBytes
    },
    read: (range, signal, isContinued) => spool.read(range, signal, isContinued),
    get file() {
      return spool.file
    },
    [Symbol.asyncDispose]: async () => {
      leave()
      await Promise.resolve()
    },
  }
}

/**
 * Content of a running fill whose ranges wait until the whole blob is proved. It has no file, because readers
 * in other threads would not wait.
 */
function provingRanges(content: Content, fill: Fill): Content {
  return {
    digest: content.digest,
    mediaType: content.mediaType,
    get sizeBytes() {
      return content.sizeBytes
    },
    read: (range, signal, isContinued) => {
      const isWhole = range.start === 0 && range.end >= (content.sizeBytes ?? Infinity)
      if (isWhole) return content.read(range, signal, isContinued)
      return readOnceProved(content, fill, { range, signal })
    },
    [Symbol.asyncDispose]: async () => await content[Symbol.asyncDispose](),
  }
}

/**
 * Content that passes straight through. It is never stored, so a range of it cannot be proved before it is
 * sent.
 */
function wholeOnly(content: Content): Content {
  return {
    ...content,
    read: (range, signal, isContinued) => {
      if (range.start === 0 && range.end >= (content.sizeBytes ?? Infinity))
        return content.read(range, signal, isContinued)
      throw new OciError('UNAVAILABLE', 'a range cannot be proved while the mirror cannot store blobs')
    },
    [Symbol.asyncDispose]: async () => await content[Symbol.asyncDispose](),
  }
}

async function* readOnceProved(
  content: Content,
  fill: Fill,
  { range, signal }: { readonly range: ByteRange; readonly signal: AbortSignal },
): AsyncGenerator<Uint8Array> {
  const left = Promise.withResolvers<false>()
  const leave = (): void => left.resolve(false)
  signal.addEventListener('abort', leave, { once: true })
  try {
    const isProved = !signal.aborted && (await Promise.race([fill.proof, left.promise]))
    if (signal.aborted) return
    if (!isProved) throw new UpstreamError('mismatch', `${content.digest} could not be proved`)
  } finally {
    signal.removeEventListener('abort', leave)
  }
  yield* content.read(range, signal)
}

/** Error for a blob that neither the cache nor the upstream has. */
function blobUnknown(source: Source, digest: Digest): OciError {
  return new OciError('BLOB_UNKNOWN', `${source.namespace}/${source.repository} has no blob ${digest}`)
}
