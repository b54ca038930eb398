import { Claimed } from '../hosted/claimed.ts'
import { Hosted } from '../hosted/hosted.ts'
import { Answers } from '../mirror/answers.ts'
import { parseRepositoryName } from '../oci/name.ts'
import { parseConfiguredNamespace } from '../oci/namespace.ts'
import type { Place } from '../oci/place.ts'
import type { Space } from '../space/space.ts'
import type { Store } from '../storage/store.ts'
import type { DaemonParts } from './parts.ts'

export interface HostingParts
  extends Pick<DaemonParts, 'events' | 'clock' | 'epoch' | 'mirror' | 'inForce' | 'space'> {
  /** The store as {@link Space} watches it. */
  readonly store: Store
}

/** What answers by name: the hosted repositories, the mirror, and the choice between them. */
export interface HostingRooms {
  readonly hosted: Hosted
  readonly entrance: {
    readonly answering: Claimed
    readonly hosting: Claimed
    /** Everything that is hosted or cached. A bucket tells only what is hosted. */
    readonly repositories: () => AsyncIterable<Place>
  }
}

/** Builds what is hosted, in front of the mirror; `undo` disposes of it. */
export function hostingOf(
  { mirror, inForce, space, ...parts }: HostingParts,
  undo: AsyncDisposableStack,
): HostingRooms {
  const hosted = undo.use(new Hosted({ ...parts, parties: { rules: [], witnesses: [] } }))
  const answering = new Claimed({
    hosted,
    mirror: new Answers({ mirror, directory: () => inForce.current.directory }),
    claims: () => inForce.current.sections.hosted,
  })
  const repositories = (): AsyncIterable<Place> => repositoriesOf(hosted, answering, space)
  return { hosted, entrance: { answering, hosting: answering, repositories } }
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
