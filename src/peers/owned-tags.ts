import { LRUCache } from 'lru-cache'
import type { Clock } from '../lib/clock.ts'
import { SharedCalls } from '../lib/flights.ts'
import type { Digest } from '../oci/digest.ts'
import { overloaded } from '../oci/error.ts'
import type { Tag } from '../oci/name.ts'
import type { Namespace } from '../oci/namespace.ts'
import type { Place } from '../oci/place.ts'
import type { ManifestHead, Registry } from '../upstream/registry.ts'

const REMEMBERED_MAX = 20_000
const QUESTIONS_MAX = 4096

export interface OwnedTagsParts {
  readonly clock: Pick<Clock, 'monotonicMs'>
  /** Time for which a tag of this registry is fresh, in milliseconds. */
  readonly freshForMs: (namespace: Namespace) => number
  /** Aborts when the daemon ends. */
  readonly lifetime: AbortSignal
}

/** The answer of a registry, and how long ago it gave it. */
type AgedHead = ManifestHead & { readonly ageMs: number }

interface TagQuestion {
  readonly tag: Tag
  /** Ask the registry even if its last answer is fresh. */
  readonly isFresh?: boolean
}

/**
 * What registries answered about the tags that this replica owns. All replicas ask here, this one included,
 * so that a registry gets one HEAD per tag and freshness. Each replica decides for itself what to make of the
 * answer: whether it serves an older image, or forgets the tag.
 */
export class OwnedTags {
  readonly #parts: OwnedTagsParts
  readonly #heads = new LRUCache<string, { readonly head: ManifestHead; readonly atMs: number }>({
    max: REMEMBERED_MAX,
  })
  readonly #questions = new SharedCalls<AgedHead | undefined>(QUESTIONS_MAX, overloaded)

  constructor(parts: OwnedTagsParts) {
    this.#parts = parts
  }

  /** The answer of the registry about a tag. Throws the registry's error. */
  async head(
    registry: Registry,
    { namespace, repository }: Place,
    { tag, isFresh = false }: TagQuestion,
    trail: readonly string[] = [],
  ): Promise<AgedHead | undefined> {
    const { clock, freshForMs } = this.#parts
    const key = tagKey({ namespace, repository }, tag)
    const known = this.#heads.get(key)
    if (known !== undefined && !isFresh) {
      const ageMs = clock.monotonicMs() - known.atMs
      if (ageMs < freshForMs(namespace)) return { ...known.head, ageMs }
    }
    // Requests that passed other mirrors may be refused as a loop, which is no answer to the rest.
    const shared = [key, String(isFresh), ...trail].join(' ')
    return await this.#questions.call(
      shared,
      async () => await this.#ask(registry, { namespace, repository }, { tag, isFresh }),
    ).job
  }

  /** Forgets an answer that another replica knows to be out of date. */
  changed(place: Place, tag: Tag, digest: Digest | undefined): void {
    const key = tagKey(place, tag)
    if (this.#heads.get(key)?.head.digest !== digest) this.#heads.delete(key)
  }

  async #ask(
    registry: Registry,
    place: Place,
    { tag, isFresh = false }: TagQuestion,
  ): Promise<AgedHead | undefined> {
    const { clock, lifetime } = this.#parts
    const key = tagKey(place, tag)
    const atMs = clock.monotonicMs()
    const reference = { kind: 'tag', tag } as const
    const head = await registry.headManifest(place.repository, reference, lifetime, { isFresh })
    if (head?.digest === undefined) this.#heads.delete(key)
    else this.#heads.set(key, { head, atMs })
    return head === undefined ? undefined : { ...head, ageMs: 0 }
  }
}

/** The key by which a tag is owned. */
export function tagKey({ namespace, repository }: Place, tag: Tag): string {
  return `${namespace}/${repository}:${tag}`
}

/** The key by which content is owned. */
export function contentKeyOf(namespace: Namespace, digest: string): string {
  return `${namespace}@${digest}`
}
