import type { TagHistory } from '../content/tag-history.ts'
import type { EventDetails } from '../observe/event.ts'
import type { Events } from '../observe/events.ts'
import type { Notice } from '../observe/notifications/notice.ts'
import type { Notifications } from '../observe/notifications/notifications.ts'
import { parseDigest } from '../oci/digest.ts'
import { parseRepositoryName, parseTag } from '../oci/name.ts'
import { parseConfiguredNamespace } from '../oci/namespace.ts'
import type { NoticeType } from '../oci/notice-type.ts'
import type { StoreWrite } from '../storage/store.ts'
import type { Act, ActWitness, TagAct } from './acts.ts'
import type { HostedKind, Shelf } from './shelf.ts'

/** Name of a client without an identity, in events and in the history of tags. */
const ANONYMOUS_ACTOR = 'anonymous'

export interface ChangeWitnessParts {
  readonly events: Pick<Events, 'pushed' | 'tagMoved' | 'deleted'>
  readonly history: TagHistory
  readonly shelf: Shelf
  /** Keeps events before they happen; without it a crash may lose some. */
  readonly notifications?: Pick<Notifications, 'announce' | 'failed'>
}

type Change = {
  readonly [Kind in 'pushed' | 'tag-moved' | 'deleted']: {
    readonly kind: Kind
    readonly details: EventDetails[Kind]
  }
}['pushed' | 'tag-moved' | 'deleted']

/** Reports what clients change in hosted repositories, and keeps the history of their tags. */
export class ChangeWitness implements ActWitness {
  readonly #parts: ChangeWitnessParts
  /** Events of acts that are under way. */
  readonly #announced = new WeakMap<Act, Change>()

  constructor(parts: ChangeWitnessParts) {
    this.#parts = parts
  }

  async announced(acts: readonly Act[]): Promise<void> {
    const changes: Change[] = []
    for (const act of acts) {
      const change = changeOf(act)
      if (change === undefined) continue
      this.#announced.set(act, change)
      changes.push(change)
    }
    if (changes.length > 0) await this.#parts.notifications?.announce(changes)
  }

  failed(act: Act): void {
    const change = this.#announced.get(act)
    if (change !== undefined) this.#parts.notifications?.failed(change)
  }

  /** The history of the tag. */
  async beside({
    namespace,
    repository,
    tag,
    digest,
    from,
    by = ANONYMOUS_ACTOR,
  }: TagAct): Promise<readonly StoreWrite[]> {
    if (from === digest) return []
    return [await this.#parts.history.next({ namespace, repository }, tag, { digest, by })]
  }

  async saw(act: Act): Promise<void> {
    const { history } = this.#parts
    if (act.kind === 'untag') {
      const { namespace, repository, tag, by = ANONYMOUS_ACTOR } = act
      await history.add({ namespace, repository }, tag, { digest: undefined, by }, 'durable')
    }
    const change = this.#announced.get(act) ?? changeOf(act)
    if (change !== undefined) this.#report(change)
  }

  /**
   * True if the change that a notice of {@link announced} reports has been made, as far as the records tell.
   * Where a later change hides it, it counts as made. Throws if they cannot be read.
   */
  async happened({ type, data, atMs }: Notice): Promise<boolean> {
    const { shelf, history } = this.#parts
    const namespace = parseConfiguredNamespace(textIn(data, 'namespace'))
    const repository = parseRepositoryName(textIn(data, 'repository'))
    if (namespace === undefined || repository === undefined) return false
    const place = { namespace, repository }
    const [digest, tag] = [parseDigest(textIn(data, 'digest')), parseTag(textIn(data, 'tag'))]
    const pushedAtMs = async (kind: HostedKind): Promise<number | undefined> =>
      digest === undefined ? undefined : (await shelf.content({ kind, ...place, digest }))?.pushedAtMs
    const checks: Partial<Record<NoticeType, () => Promise<boolean>>> = {
      'manifest.pushed': async () => (await pushedAtMs('hosted-manifest')) !== undefined,
      'manifest.deleted': async () => ((await pushedAtMs('hosted-manifest')) ?? Infinity) >= atMs,
      'blob.deleted': async () => ((await pushedAtMs('hosted-blob')) ?? Infinity) >= atMs,
      'tag.deleted': async () =>
        tag !== undefined && ((await shelf.tag(place, tag))?.movedAtMs ?? Infinity) >= atMs,
      'tag.moved': async () => {
        if (tag === undefined) return false
        if ((await shelf.tag(place, tag))?.digest === digest) return true
        const moves = await history.read(place, tag)
        return moves.some(move => move.digest === digest && move.atMs >= atMs)
      },
    }
    return (await checks[type]?.()) ?? false
  }

  #report(change: Change): void {
    const { events } = this.#parts
    switch (change.kind) {
      case 'pushed':
        events.pushed(change.details)
        return
      case 'tag-moved':
        events.tagMoved(change.details)
        return
      case 'deleted':
        events.deleted(change.details)
        return
      default:
        change satisfies never
    }
  }
}

/** The event of an act; `undefined` if it changes nothing that is reported. */
function changeOf(act: Act): Change | undefined {
  const { namespace, repository, by = ANONYMOUS_ACTOR } = act
  const place = { namespace, repository, by }
  switch (act.kind) {
    case 'publish': {
      const { digest, mediaType, sizeBytes, isNew } = act
      if (!isNew) return undefined
      return { kind: 'pushed', details: { ...place, digest, tags: [], mediaType, sizeBytes } }
    }
    case 'tag': {
      const { tag, digest, from: before } = act
      if (before === digest) return undefined
      return { kind: 'tag-moved', details: { ...place, tag, digest, before } }
    }
    case 'untag':
      return { kind: 'deleted', details: { ...place, what: 'tag', tag: act.tag, digest: act.from } }
    case 'withdraw':
      return { kind: 'deleted', details: { ...place, what: 'manifest', tag: undefined, digest: act.digest } }
    case 'unlink':
      return { kind: 'deleted', details: { ...place, what: 'blob', tag: undefined, digest: act.digest } }
    case 'receive':
    case 'link':
      return undefined
    default:
      act satisfies never
      return undefined
  }
}

function textIn(data: Notice['data'], key: string): string {
  const value = data[key]
  return typeof value === 'string' ? value : ''
}
