import { TagHistory } from '../content/tag-history.ts'
import { ChangeWitness } from '../hosted/change-witness.ts'
import { Claimed } from '../hosted/claimed.ts'
import { Hosted } from '../hosted/hosted.ts'
import { PullBook } from '../hosted/pulls.ts'
import { HostedRules } from '../hosted/rules.ts'
import { Shelf } from '../hosted/shelf.ts'
import type { HostedTerms } from '../hosted/terms.ts'
import { HostedUpkeep, type HostedUpkeepParts } from '../hosted/upkeep.ts'
import { Usage } from '../hosted/usage.ts'
import { Answers } from '../mirror/answers.ts'
import type { Notifications } from '../observe/notifications/notifications.ts'
import { parseRepositoryName } from '../oci/name.ts'
import { parseConfiguredNamespace } from '../oci/namespace.ts'
import type { Place } from '../oci/place.ts'
import type { Space } from '../space/space.ts'
import type { Store } from '../storage/store.ts'
import { requireCreationFor } from './immutable-tags.ts'
import type { DaemonParts } from './parts.ts'

export interface HostingParts
  extends Pick<
    DaemonParts,
    'config' | 'events' | 'clock' | 'epoch' | 'mirror' | 'inForce' | 'space' | 'runs'
  > {
  /** Keeps the events for endpoints. */
  readonly notifications: Pick<Notifications, 'announce' | 'failed' | 'judgeBy' | 'settled'>
  /** The store as {@link Space} watches it. */
  readonly store: Store
}

/** What answers by name: the hosted repositories, the mirror, and the choice between them. */
export interface HostingRooms {
  readonly hosted: Hosted
  readonly history: TagHistory
  readonly upkeep: HostedUpkeep
  readonly isClaimed: (place: Place) => boolean
  readonly pulls: PullBook
  readonly entrance: {
    readonly answering: Claimed
    readonly hosting: Claimed
    /** Everything that is hosted or cached. A bucket tells only what is hosted. */
    readonly repositories: () => AsyncIterable<Place>
  }
}

/** Builds what is hosted, in front of the mirror; `undo` disposes of it. */
export function hostingOf(
  { mirror, inForce, space, notifications, ...parts }: HostingParts,
  undo: AsyncDisposableStack,
): HostingRooms {
  const { store, events, clock } = parts
  const history = new TagHistory({ store, clock, events })
  const terms = (): readonly HostedTerms[] => inForce.current.sections.policies
  const shelf = new Shelf(store, events)
  const usage = new Usage(shelf, clock)
  const requireCreation = async (policy: HostedTerms): Promise<void> =>
    await requireCreationFor(parts, policy)
  const rules = [new HostedRules({ terms, history, usage, events, requireCreation })]
  const changes = new ChangeWitness({ events, history, shelf, notifications })
  undo.use(notifications.judgeBy(async notice => await changes.happened(notice)))
  const witnesses = [usage, changes]
  const settled = async (): Promise<void> => await notifications.settled()
  const hosted = undo.use(new Hosted({ ...parts, parties: { rules, witnesses, settled } }))
  const isNeeded = (): boolean =>
    inForce.current.sections.hosted.length > 0 && parts.config.isReadOnly !== true
  const pulls = undo.use(
    new PullBook({
      ...parts,
      isClaimed: place => isNeeded() && answering.isClaimed(place),
      isHosted: async place => await hosted.shelf.knows(place),
    }),
  )
  const upkeep = undo.use(
    new HostedUpkeep({
      ...upkeepParts({ ...parts, space, mirror }, hosted),
      terms,
      isNeeded,
      pulls,
      history,
    }),
  )
  const answering = new Claimed({
    hosted,
    mirror: new Answers({ mirror, directory: () => inForce.current.directory }),
    claims: () => inForce.current.sections.hosted,
  })
  const repositories = (): AsyncIterable<Place> => repositoriesOf(hosted, answering, space)
  upkeep.start()
  return {
    hosted,
    history,
    upkeep,
    isClaimed: place => answering.isClaimed(place),
    pulls,
    entrance: { answering, hosting: answering, repositories },
  }
}

/** Time between the discovery that nothing needs content and its removal. */
const GRACE_MS = 3_600_000

function upkeepParts(
  {
    store,
    events,
    clock,
    space,
    mirror,
    runs: turns,
  }: Pick<HostingParts, 'store' | 'events' | 'clock' | 'space' | 'mirror' | 'runs'>,
  hosted: Hosted,
): Omit<HostedUpkeepParts, 'terms' | 'isNeeded' | 'pulls' | 'history'> {
  return {
    hosted,
    store: {
      open: async digest => await store.open(digest),
      delete: async digest => await (space?.store.deleteAnnounced(digest) ?? store.delete(digest)),
    },
    events,
    clock,
    graceMs: GRACE_MS,
    turns,
    isCached: async digest => {
      if (space?.index.state !== 'open') return false
      const [object] = await space.index.ask('objects', [digest])
      return object !== undefined && object.repositories.length > 0
    },
    removed: async digest => await mirror.forgetEvicted(digest, []),
  }
}

/** What is cached under a name that is claimed now does not count: nobody can pull it. */
async function* repositoriesOf(
  hosted: Hosted,
  claimed: Claimed,
  space: Space | undefined,
): AsyncGenerator<Place> {
  for await (const place of hosted.shelf.repositories()) if (claimed.isClaimed(place)) yield place
  if (space?.index.state !== 'open') return
  for (const { namespace: host, repository: name } of await space.index.ask('cachedPlaces')) {
    const namespace = parseConfiguredNamespace(host)
    const repository = parseRepositoryName(name)
    if (namespace === undefined || repository === undefined) continue
    const place = { namespace, repository }
    if (!claimed.isClaimed(place)) yield place
  }
}
