import { type NeededKeys, SharedTurns } from '../lib/turns.ts'
import type { Digest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import type { Tag } from '../oci/name.ts'
import type { Place } from '../oci/place.ts'
import { requiredBy } from '../oci/pushed-manifest.ts'
import type { StoreWrite } from '../storage/store.ts'
import { type Act, announcing, judgeAct, type LinkAct, reportAct, underRules } from './acts.ts'
import type { DigestRemoval } from './collection-marks.ts'
import { type Publication, Publisher, type PublisherParts } from './publication.ts'
import type { HostedContent } from './records.ts'
import type { ContentName } from './shelf.ts'

/** Longest time between the hold and the record of a manifest that is being pushed, in milliseconds. */
const PUSH_MS_MAX = 10 * 60_000
/** A claim is renewed when it is this old: a client that asks again and again costs no writes. */
const CLAIM_RENEWED_MS = 3_600_000

export interface PublishingParts extends PublisherParts {
  /** Called when what a client sees of a repository may have changed. */
  readonly onChange: (place: Place) => void
  /** Called when a claim could not be written. */
  readonly unclaimed?: (error: unknown) => void
}

/** Who acts where. */
export interface Actor {
  readonly place: Place
  readonly by: string | undefined
}

/**
 * The one way by which hosted repositories change. Every change runs in an order of the digests and tags that
 * it concerns: publications and links of a digest overlap, a removal or a collection has it for itself, and
 * one tag moves once at a time. Rules judge an act first, and witnesses see it after it is durable.
 *
 * Order of writes: the holds, the content, the record of the repository, the tag. Each is durable before the
 * next, so a crash leaves at most content and holds that nothing needs. A removal ends with the record: only
 * the collection removes holds and content, after a grace.
 */
export class Publishing {
  readonly #parts: PublishingParts
  readonly #turns = new SharedTurns<string>()
  readonly #publisher: Publisher

  constructor(parts: PublishingParts) {
    this.#parts = parts
    this.#publisher = new Publisher(parts)
  }

  /**
   * Publishes a manifest, durably, then sets its tags. Throws MANIFEST_BLOB_UNKNOWN if the repository lacks
   * what the manifest names. Returns the warnings of the rules.
   */
  async publish(publication: Publication): Promise<readonly string[]> {
    const { place, digest, manifest, tags } = publication
    const named = requiredBy(manifest)
    const keys = {
      shared: [digest, ...named.blobs, ...named.manifests],
      alone: tags.map(tag => tagKey(place, tag)),
    }
    return await this.#change(keys, async () => {
      const warnings = await this.#publisher.publish(publication, named)
      this.#parts.onChange(place)
      return warnings
    })
  }

  /**
   * Gives the repository a blob. `bring` returns the writes that store its content, none if it is stored, and
   * `undefined` if it is not here: the blob is not linked then.
   */
  async link(
    { place, by }: Actor,
    { digest, sizeBytes }: { readonly digest: Digest; readonly sizeBytes: number },
    bring: () => Promise<readonly StoreWrite[] | undefined>,
  ): Promise<boolean> {
    return await this.#change({ shared: [digest] }, async () => {
      const act = { kind: 'link', ...place, by, digest, sizeBytes } as const
      return await underRules(this.#parts.parties, act, async () => await this.#linkNow(act, bring))
    })
  }

  /**
   * Notes that a client which may push has learned that the content is here. It may skip the upload, so the
   * content must stay for a day, named or not. Returns false if the content was removed meanwhile. A store
   * that takes no records now does not stop a pull: without its mark the content stays for the grace at
   * least.
   */
  async claim(name: ContentName, record: HostedContent): Promise<boolean> {
    const { shelf, clock } = this.#parts
    if (Math.abs(clock.wallMs() - record.claimedAtMs) < CLAIM_RENEWED_MS) return true
    return await this.#turns.take({ shared: [name.digest] }, async () => {
      const isHeld = await this.#holdFor(name)
      const current = await shelf.content(name)
      if (current === undefined) return false
      // A record that another process has removed must not come back: only a hold keeps it from that.
      if (!isHeld) return true
      try {
        await shelf.renew(name, { ...current, claimedAtMs: clock.wallMs() })
      } catch (error) {
        this.#parts.unclaimed?.(error)
      }
      return true
    })
  }

  /**
   * Holds a blob for a client that learns of it; `false` if that cannot be written. The record of a manifest
   * is hold enough.
   */
  async #holdFor(name: ContentName): Promise<boolean> {
    const { shelf, marks } = this.#parts
    if (name.kind === 'hosted-manifest') {
      await marks?.spare(name.digest)
      return true
    }
    try {
      do await shelf.hold(name, name.digest)
      while ((await marks?.spare(name.digest)) === true)
      return true
    } catch (error) {
      if (error instanceof OciError) throw error
      this.#parts.unclaimed?.(error)
      await marks?.spare(name.digest)
      return false
    }
  }

  /** Sets a tag to a manifest that the repository has; MANIFEST_UNKNOWN if it does not. */
  async tag({ place, by }: Actor, tag: Tag, digest: Digest): Promise<readonly string[]> {
    return await this.#change({ shared: [digest], alone: [tagKey(place, tag)] }, async () => {
      const { shelf, marks } = this.#parts
      // A fresh hold keeps retention in another process from the manifest.
      do await shelf.hold(place, digest)
      while ((await marks?.spare(digest)) === true)
      const found = await shelf.content({ kind: 'hosted-manifest', ...place, digest })
      if (found === undefined)
        throw new OciError('MANIFEST_UNKNOWN', `this repository has no manifest ${digest}`)
      const warnings = await this.#publisher.tag({ place, by }, tag, digest)
      this.#parts.onChange(place)
      return warnings
    })
  }

  /**
   * Removes a tag, unless it was set at another time than meant; `false` if it is not removed. The manifest
   * stays.
   */
  async untag({ place, by }: Actor, tag: Tag, setAtMs?: number): Promise<boolean> {
    return await this.#change({ alone: [tagKey(place, tag)] }, async () => {
      const current = await this.#parts.shelf.tag(place, tag)
      if (setAtMs !== undefined && current?.movedAtMs !== setAtMs) return false
      const wasThere = await this.#removeTag({ place, by }, tag)
      this.#parts.onChange(place)
      return wasThere
    })
  }

  /** Removes a manifest and the tags that name it; `false` if the repository does not have it. */
  async withdraw(actor: Actor, digest: Digest): Promise<boolean> {
    const { shelf, onChange } = this.#parts
    for (;;) {
      const tags = await shelf.tagsOf(actor.place, digest)
      const alone = [digest, ...tags.map(tag => tagKey(actor.place, tag))]
      const wasThere = await this.#change({ alone }, async () => {
        const now = await shelf.tagsOf(actor.place, digest)
        // A tag that was set meanwhile is not ours to remove yet.
        if (now.some(tag => !tags.includes(tag))) return undefined
        return await this.#withdrawNow(actor, digest, now)
      })
      onChange(actor.place)
      if (wasThere !== undefined) return wasThere
    }
  }

  /**
   * Removes a manifest if no tag and no other manifest of the repository names it, and if it was not pushed
   * in the last minutes; `false` if it stays.
   */
  async withdrawUnnamed({ place, by }: Actor, digest: Digest): Promise<boolean> {
    const { marks, onChange } = this.#parts
    // Whoever is to name it shares its order, so nobody in this process does meanwhile.
    return await this.#change({ alone: [digest] }, async () => {
      const withdraw = async (removal?: Pick<DigestRemoval, 'requireFresh'>): Promise<boolean> => {
        if (await this.#isNamed(place, digest)) return false
        removal?.requireFresh()
        return await this.#withdrawNow({ place, by }, digest, [])
      }
      // Others hold what they name before they look for the mark, which is written before this looks.
      const wasThere = await (marks === undefined ? withdraw() : marks.removing(digest, withdraw))
      if (wasThere) onChange(place)
      return wasThere
    })
  }

  /** True if a manifest was pushed or tagged in the last minutes, perhaps by a push that is under way. */
  async isRecent(place: Place, digest: Digest): Promise<boolean> {
    return ((await this.#parts.shelf.holdAgeMs(place, digest, undefined)) ?? Infinity) < PUSH_MS_MAX
  }

  /** Takes a blob from the repository; `false` if it does not have it. */
  async unlink({ place, by }: Actor, digest: Digest): Promise<boolean> {
    return await this.#change({ alone: [digest] }, async () => {
      const { shelf, parties, onChange } = this.#parts
      const name = { kind: 'hosted-blob', ...place, digest } as const
      if ((await shelf.content(name)) === undefined) return false
      const act = { kind: 'unlink', ...place, by, digest } as const
      await judgeAct(parties, act)
      await announcing(parties, [act], async announced => {
        await Promise.all([this.#parts.marks?.suspect(digest), announced])
        await shelf.removeContent(name)
        onChange(place)
        await reportAct(parties, act)
      })
      return true
    })
  }

  /**
   * Runs an action that needs a digest for itself, such as its collection: no publication, link, claim or
   * removal of the digest runs meanwhile.
   */
  async alone<T>(digest: Digest, action: () => Promise<T>): Promise<T> {
    return await this.#turns.take({ alone: [digest] }, action)
  }

  /** Resolves when all changes that have begun have ended. */
  async settled(): Promise<void> {
    await this.#turns.settled()
  }

  async #linkNow(
    { digest, sizeBytes, by, namespace, repository }: LinkAct,
    bring: () => Promise<readonly StoreWrite[] | undefined>,
  ): Promise<boolean> {
    const { shelf, clock, store, parties, marks, onChange } = this.#parts
    const place = { namespace, repository }
    // Held before it is there: whatever looks for content to remove spares it from now on.
    do await shelf.hold(place, digest)
    while ((await marks?.spare(digest)) === true)
    const content = await bring()
    if (content === undefined) return false
    await shelf.know(place)
    const nowMs = clock.wallMs()
    const record = { sizeBytes, mediaType: undefined, pushedAtMs: nowMs, claimedAtMs: nowMs, by }
    const linked = shelf.contentWrite({ kind: 'hosted-blob', ...place, digest }, record)
    await store.writeSteps([content, [linked]], 'durable')
    onChange(place)
    await reportAct(parties, { kind: 'link', ...place, by, digest, sizeBytes })
    return true
  }

  /**
   * Runs a change in its order. The client is answered when the events of it are kept, too: its next request
   * need not wait for that.
   */
  async #change<T>(keys: NeededKeys<string>, action: () => Promise<T>): Promise<T> {
    const result = await this.#turns.take(keys, action)
    await this.#parts.parties.settled?.()
    return result
  }

  async #removeTag({ place, by }: Actor, tag: Tag): Promise<boolean> {
    const { shelf, parties } = this.#parts
    const from = (await shelf.tag(place, tag))?.digest
    if (from === undefined) return false
    const act: Act = { kind: 'untag', ...place, by, tag, from }
    await judgeAct(parties, act)
    await announcing(parties, [act], async announced => {
      await announced
      await shelf.removeTag(place, tag)
      await reportAct(parties, act)
    })
    return true
  }

  /**
   * The holds stay, and so do the notes of what the manifest refers to and which tags named it: the same
   * manifest may be pushed in another process at this moment, and relies on them. The collection lets go of
   * them when no push can be under way any more.
   */
  async #withdrawNow({ place, by }: Actor, digest: Digest, tags: readonly Tag[]): Promise<boolean> {
    const { shelf, parties, marks } = this.#parts
    const name = { kind: 'hosted-manifest', ...place, digest } as const
    if ((await shelf.content(name)) === undefined) return false
    const act: Act = { kind: 'withdraw', ...place, by, digest }
    await judgeAct(parties, act)
    for (const tag of tags) await this.#removeTag({ place, by }, tag)
    await announcing(parties, [act], async announced => {
      await Promise.all([marks?.suspect(digest), announced])
      await shelf.removeContent(name)
      await reportAct(parties, act)
    })
    return true
  }

  /** True if something in the repository names a manifest, or is about to. */
  async #isNamed(place: Place, digest: Digest): Promise<boolean> {
    const { shelf } = this.#parts
    if ((await shelf.tagsOf(place, digest)).length > 0) return true
    if (await this.isRecent(place, digest)) return true
    for await (const { by, ...holder } of shelf.holds(digest)) {
      if (by === undefined || !isSame(holder, place)) continue
      if ((await shelf.content({ kind: 'hosted-manifest', ...place, digest: by })) !== undefined) return true
      if (((await shelf.holdAgeMs(place, digest, by)) ?? Infinity) < PUSH_MS_MAX) return true
    }
    return false
  }
}

function isSame(one: Place, other: Place): boolean {
  return one.namespace === other.namespace && one.repository === other.repository
}

function tagKey({ namespace, repository }: Place, tag: Tag): string {
  return `${namespace}/${repository}:${tag}`
}
