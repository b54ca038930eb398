import type { HostedUpkeep } from '../hosted/upkeep.ts'
import type { AdminStreams } from './contract.ts'
import { isOn } from './query.ts'

/** Applies retention, then collects; with `dry-run` it changes nothing. */
export async function* collectHosted(
  { upkeep }: { readonly upkeep: Pick<HostedUpkeep, 'retain' | 'collect'> },
  query: URLSearchParams,
  signal: AbortSignal,
): AsyncGenerator<AdminStreams['POST collect']> {
  const options = { isDry: isOn(query, 'dry-run') }
  let [tags, objects, bytes] = [0, 0, 0]
  for await (const { place, tag, digest, isKept, why } of upkeep.retain(options, signal)) {
    if (!isKept) tags += 1
    yield { event: 'tag', image: `${place.namespace}/${place.repository}:${tag}`, digest, isKept, why }
  }
  for await (const { digest, sizeBytes, freedBytes, places, action, why } of upkeep.collect(
    options,
    signal,
  )) {
    if (action === 'remove') {
      objects += 1
      bytes += freedBytes
    }
    const repositories = places.map(({ namespace, repository }) => `${namespace}/${repository}`)
    yield { event: 'content', digest, sizeBytes, freedBytes, action, repositories, why }
  }
  yield { event: 'done', tags, objects, bytes }
}
