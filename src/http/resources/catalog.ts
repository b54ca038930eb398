import type { Access } from '../../access/access.ts'
import type { Identity } from '../../oci/identity.ts'
import type { Namespace } from '../../oci/namespace.ts'
import { pathHostOf } from '../../oci/path-host.ts'
import type { Place } from '../../oci/place.ts'
import type { TagsPageRequest } from '../../oci/tags-page.ts'
import { jsonReply, type Reply } from '../reply.ts'

/** Most names of one page. */
const PAGE_MAX = 1000

export interface CatalogParts {
  /** Everything that is hosted or cached, in any order; a repository may come twice. */
  readonly repositories: (() => AsyncIterable<Place>) | undefined
  readonly defaultNamespace: Namespace
  readonly access: Pick<Access, 'may'>
}

/** `GET /v2/_catalog?n=&last=`: the repositories that the client may pull from, by the names it pulls by. */
export async function answerCatalog(
  { repositories, defaultNamespace, access }: CatalogParts,
  identity: Identity,
  { n, last }: TagsPageRequest,
): Promise<Reply> {
  const names = new Set<string>()
  for await (const place of repositories?.() ?? []) {
    const name = nameOf(place, defaultNamespace)
    const isWanted = name !== undefined && (last === undefined || name > last)
    if (isWanted && access.may(identity, place, 'pull')) names.add(name)
  }
  const sorted = [...names].sort()
  const count = Math.min(n ?? PAGE_MAX, PAGE_MAX)
  const page = sorted.slice(0, count)
  const next = page.at(-1)
  const isMore = next !== undefined && page.length < sorted.length
  const query = new URLSearchParams({ n: String(count), last: next ?? '' }).toString()
  const link: Record<string, string> = isMore ? { Link: `</v2/_catalog?${query}>; rel="next"` } : {}
  return jsonReply(200, JSON.stringify({ repositories: page }), link)
}

/** `undefined` for a registry that no path can name. */
function nameOf({ namespace, repository }: Place, defaultNamespace: Namespace): string | undefined {
  if (namespace === defaultNamespace) return repository
  const host = pathHostOf(namespace)
  return host === undefined ? undefined : `${host}/${repository}`
}
