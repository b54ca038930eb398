import type { TagHistory } from '../content/tag-history.ts'
import type { Events } from '../observe/events.ts'
import type { StoreWrite } from '../storage/store.ts'
import type { Act, ActWitness, TagAct } from './acts.ts'

/** Name of a client without an identity, in events and in the history of tags. */
const ANONYMOUS_ACTOR = 'anonymous'

export interface ChangeWitnessParts {
  readonly events: Pick<Events, 'pushed' | 'tagMoved' | 'deleted'>
  readonly history: TagHistory
}

/** Reports what clients change in hosted repositories, and keeps the history of their tags. */
export class ChangeWitness implements ActWitness {
  readonly #parts: ChangeWitnessParts

  constructor(parts: ChangeWitnessParts) {
    this.#parts = parts
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
    const { events, history } = this.#parts
    const { namespace, repository, by = ANONYMOUS_ACTOR } = act
    const place = { namespace, repository }
    switch (act.kind) {
      case 'publish': {
        const { digest, mediaType, sizeBytes } = act
        if (act.isNew) events.pushed({ ...place, digest, tags: [], mediaType, sizeBytes, by })
        return
      }
      case 'tag': {
        const { tag, digest, from: before } = act
        if (before === digest) return
        events.tagMoved({ ...place, tag, digest, before, by })
        return
      }
      case 'untag':
        await history.add(place, act.tag, { digest: undefined, by }, 'durable')
        events.deleted({ ...place, what: 'tag', tag: act.tag, digest: act.from, by })
        return
      case 'withdraw':
        events.deleted({ ...place, what: 'manifest', tag: undefined, digest: act.digest, by })
        return
      case 'unlink':
        events.deleted({ ...place, what: 'blob', tag: undefined, digest: act.digest, by })
        return
      case 'receive':
      case 'link':
        return
      default:
        act satisfies never
    }
  }
}
