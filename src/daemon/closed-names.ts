import { parseRepositoryName } from '../oci/name.ts'
import { parseConfiguredNamespace } from '../oci/namespace.ts'
import type { Place } from '../oci/place.ts'
import type { DaemonParts } from './parts.ts'

/** Repositories that one log line names. */
const NAMED_MAX = 20

type ClosedNamesParts = Pick<DaemonParts, 'claimed' | 'events' | 'hosting' | 'inForce' | 'space'>

/**
 * Logs the cached repositories that a claim of hosted names closes: nobody can pull them any more, and
 * nothing was pushed in their place. Waits for a walk that runs. Never rejects.
 */
export async function warnOfClosedNames(parts: ClosedNamesParts): Promise<void> {
  const { inForce, space, events } = parts
  if (inForce.current.sections.hosted.length === 0 || space === undefined || space.isAsleep) return
  try {
    await space.index.open()
    await space.walked()
    if (space.index.state !== 'open') return
    const closed = await closedPlaces(parts, await space.index.ask('cachedPlaces'))
    if (closed.length === 0) return
    events.warned('a claim of hosted names closes cached repositories: nobody can pull them any more', {
      count: closed.length,
      repositories: closed
        .slice(0, NAMED_MAX)
        .map(({ namespace, repository }) => `${namespace}/${repository}`),
    })
  } catch (error) {
    events.storageFailed('index', error)
  }
}

async function closedPlaces(
  { claimed, hosting }: Pick<ClosedNamesParts, 'claimed' | 'hosting'>,
  cached: readonly { readonly namespace: string; readonly repository: string }[],
): Promise<readonly Place[]> {
  const closed: Place[] = []
  for (const entry of cached) {
    const namespace = parseConfiguredNamespace(entry.namespace)
    const repository = parseRepositoryName(entry.repository)
    if (namespace === undefined || repository === undefined) continue
    const place = { namespace, repository }
    if (!claimed.isClaimed(place) || (await claimed.isMirrored(place))) continue
    if (!(await hosting.hosted.shelf.knows(place))) closed.push(place)
  }
  return closed
}
