import { Flights } from '../../lib/flights.ts'
import { BufferPool } from '../../lib/reader-buffers.ts'
import { currentSpan, type Span, within } from '../../observe/tracing/span.ts'
import type { Digest } from '../../oci/digest.ts'
import { OciError, overloaded } from '../../oci/error.ts'
import type { RepositoryName } from '../../oci/name.ts'
import type { Namespace } from '../../oci/namespace.ts'
import { Bypass } from './bypass.ts'
import type { Wanted } from './download.ts'
import { Fill, type FillOwner, type FillParts } from './fill.ts'

const FILLS_MAX = 4096
const ORPHANS_MAX = 32

/** A running download. */
export interface Flow {
  readonly namespace: Namespace
  /** The repository that requested it first. */
  readonly repository: RepositoryName
  readonly digest: Digest
  readonly writtenBytes: number
  /** `undefined` until it is known. */
  readonly sizeBytes: number | undefined
  readonly readers: number
  readonly forMs: number
  /** Speed over the last seconds. */
  readonly bytesPerSecond: number
}

/** All fills of the daemon: at most one per namespace and digest, and a limited number without a client. */
export class Fills implements FillOwner, AsyncDisposable {
  readonly #parts: FillParts
  /** For blobs that cannot be stored. */
  readonly bypass: Bypass
  readonly #flights = new Flights<Fill>(FILLS_MAX, overloaded)
  readonly #orphans = new Set<Fill>()
  readonly #all = new Set<Fill>()
  readonly #spans = new WeakMap<Fill, Span>()

  constructor(parts: Omit<FillParts, 'bypass' | 'buffers'> & Partial<Pick<FillParts, 'bypass' | 'buffers'>>) {
    this.bypass = parts.bypass ?? new Bypass(parts)
    this.#parts = { ...parts, bypass: this.bypass, buffers: parts.buffers ?? new BufferPool() }
  }

  /** The running fill of this blob for the namespace. */
  running(namespace: Namespace, digest: Digest): Fill | undefined {
    return this.#flights.get(keyOf(namespace, digest))
  }

  /** Joins the running fill, or starts one. The caller is a participant until it calls `leave`, once. */
  enter(wanted: Wanted): { readonly fill: Fill; readonly leave: () => void; readonly isNew: boolean } {
    const key = keyOf(wanted.source.namespace, wanted.digest)
    const { job: fill, isNew } = this.#flights.join(key, () => this.#begin(wanted))
    const span = this.#spans.get(fill)
    if (isNew) this.#own(fill)
    else if (span !== undefined) currentSpan()?.link(span)
    this.#orphans.delete(fill)
    return { fill, leave: fill.enter(), isNew }
  }

  /** The running fills, for display. */
  get flows(): readonly Flow[] {
    return this.#flights.running().map(fill => {
      const { source, digest } = fill.wanted
      const { namespace, repository } = source
      return { namespace, repository, digest, readers: fill.participants, ...fill.progress }
    })
  }

  /**
   * Ends the running fills of a digest that an administrator does not want any more; what was written is kept
   * for the next one. Returns how many there were.
   */
  cancel(digest: Digest): number {
    const wanted = this.#flights.running().filter(fill => fill.wanted.digest === digest)
    for (const fill of wanted)
      fill.abandon(new OciError('UNAVAILABLE', 'an administrator cancelled this download'))
    return wanted.length
  }

  ended(fill: Fill): void {
    this.#flights.remove(keyOf(fill.wanted.source.namespace, fill.wanted.digest), fill)
    this.#orphans.delete(fill)
  }

  orphaned(fill: Fill): void {
    if (this.#orphans.size >= ORPHANS_MAX)
      fill.abandon(new Error('too many downloads are running without a client'))
    else this.#orphans.add(fill)
  }

  /** Abandons the running fills and waits until every file is closed. Readers must have been ended before. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const fill of this.#flights.running()) fill.abandon(new Error('the mirror is shutting down'))
    await Promise.all([...this.#all].map(async fill => await fill.over))
  }

  /** A fill may outlive the request that starts it, so it is traced apart from it. */
  #begin(wanted: Wanted): Fill {
    const { source, digest } = wanted
    const { namespace, repository } = source
    const span = currentSpan()?.beginApart('fill', {
      'entrepot.namespace': namespace,
      'entrepot.repository': repository,
      'entrepot.reference': digest,
    })
    if (span === undefined) return new Fill(this.#parts, wanted, this)
    const fill = within(span, () => new Fill(this.#parts, wanted, this))
    this.#spans.set(fill, span)
    void fill.ended.then(() => span.end())
    return fill
  }

  #own(fill: Fill): void {
    this.#all.add(fill)
    fill.over.then(
      () => this.#all.delete(fill),
      () => this.#all.delete(fill),
    )
  }
}

function keyOf(namespace: Namespace, digest: Digest): string {
  return `${namespace}@${digest}`
}
