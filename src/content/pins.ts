import { hash } from 'node:crypto'
import type { Clock } from '../lib/clock.ts'
import { Turns } from '../lib/turns.ts'
import type { Events } from '../observe/events.ts'
import type { Digest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import { parseRepositoryName } from '../oci/name.ts'
import { parseConfiguredNamespace } from '../oci/namespace.ts'
import type { Place } from '../oci/place.ts'
import { parseReference, type Reference, referenceText } from '../oci/reference.ts'
import { Decisions, type DecisionsParts } from './decisions.ts'
import type { Inspection } from './inspection.ts'
import type { Tags } from './tags.ts'

/** Each costs look-ups before every eviction. */
const PINS_MAX = 200

/** An image protected from eviction. */
export interface Pin extends Place {
  readonly reference: Reference
  readonly pinnedAtMs: number
}

export interface PinsParts {
  readonly store: DecisionsParts['store']
  readonly tags: Pick<Tags, 'read'>
  readonly inspection: Pick<Inspection, 'digestsOf'>
  readonly clock: Clock
  readonly events: Events
}

/**
 * Images protected from eviction, by decisions of the operator that all processes on the store keep. A pinned
 * tag protects the image that it currently names: when the tag moves, the protection moves with it.
 */
export class Pins {
  readonly #parts: PinsParts
  readonly #decisions: Decisions
  #digests: ReadonlySet<Digest> = new Set()
  #isKnown = false
  /** Changes run one after another, so that no change is lost. */
  readonly #turns = new Turns<'pins'>()

  constructor(parts: PinsParts) {
    this.#parts = parts
    this.#decisions = new Decisions({ ...parts, about: 'pins', idOf })
  }

  /** True if the digest belonged to a pinned image at the last {@link refresh}. */
  has(digest: Digest): boolean {
    return this.#digests.has(digest)
  }

  /** All pins. Throws if the store cannot be read. */
  async list(): Promise<readonly Pin[]> {
    const pins = [...(await this.#decisions.list()).values()].flatMap(parsePin)
    return pins.toSorted((one, other) => one.pinnedAtMs - other.pinnedAtMs)
  }

  /** Protects an image, cached or not; `false` if it was already pinned. */
  async add(place: Place, reference: Reference): Promise<boolean> {
    return await this.#turns.take('pins', async () => await this.#add(place, reference))
  }

  /** Ends the protection; `false` if the image was not pinned. */
  async remove(place: Place, reference: Reference): Promise<boolean> {
    return await this.#turns.take('pins', async () => await this.#remove(place, reference))
  }

  async #add(place: Place, reference: Reference): Promise<boolean> {
    const pins = await this.#decisions.list()
    if (pins.has(idOfImage(place, reference))) return false
    if (pins.size >= PINS_MAX) throw new OciError('DENIED', `there are ${PINS_MAX} pins already`)
    const { namespace, repository } = place
    const pinnedAtMs = this.#parts.clock.wallMs()
    await this.#decisions.add({ namespace, repository, reference: referenceText(reference), pinnedAtMs })
    await this.refresh()
    return true
  }

  async #remove(place: Place, reference: Reference): Promise<boolean> {
    const wasPinned = await this.#decisions.remove(idOfImage(place, reference))
    if (wasPinned) await this.refresh()
    return wasPinned
  }

  /**
   * Updates the set of digests that belong to pinned images. Changes nothing if the store cannot be read.
   * Returns `false` if the pins have never been read: then nothing may be evicted. Never rejects.
   */
  async refresh(): Promise<boolean> {
    const { tags, inspection, events } = this.#parts
    try {
      const found = new Set<Digest>()
      for (const pin of await this.list()) {
        const { reference } = pin
        const digest =
          reference.kind === 'digest' ? reference.digest : (await tags.read(pin, reference.tag))?.digest
        if (digest === undefined) continue
        for (const named of await inspection.digestsOf(digest)) found.add(named)
      }
      this.#digests = found
      this.#isKnown = true
    } catch (error) {
      events.storageFailed('read-pins', error)
    }
    return this.#isKnown
  }
}

/** Every pin of an image has the same id. */
function idOf(entry: unknown): string | undefined {
  const [pin] = parsePin(entry)
  return pin === undefined ? undefined : idOfImage(pin, pin.reference)
}

function idOfImage({ namespace, repository }: Place, reference: Reference): string {
  return hash('sha256', `${namespace}/${repository} ${referenceText(reference)}`)
}

function parsePin(entry: unknown): readonly Pin[] {
  const fields = (entry ?? {}) as Record<string, unknown>
  const namespace = parseConfiguredNamespace(textOf(fields['namespace']))
  const repository = parseRepositoryName(textOf(fields['repository']))
  const reference = parseReference(textOf(fields['reference']))
  if (namespace === undefined || repository === undefined || reference === undefined) return []
  return [{ namespace, repository, reference, pinnedAtMs: Number(fields['pinnedAtMs']) || 0 }]
}

/** Returns the empty string, which names nothing, for anything that is not a string. */
function textOf(field: unknown): string {
  return typeof field === 'string' ? field : ''
}
