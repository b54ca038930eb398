import { parseRepositoryName } from '../oci/name.ts'
import { canonicalText, DOCKER_HUB, type Namespace } from '../oci/namespace.ts'
import { pathHostOf } from '../oci/path-host.ts'
import type { ReviewAnswer } from './answer.ts'
import { parseJudgedName } from './judge.ts'
import type { Review } from './review.ts'

/** To which mirror images are rewritten, and those of which registries. */
export interface Rewriting {
  /** `host` or `host:port`, as the nodes' runtimes reach it. */
  readonly mirror: Namespace
  readonly registries: readonly Namespace[] | 'all'
}

/**
 * Rewrites the images that a request adds to names of the mirror, by a JSON patch. The mirrored object of a
 * static Pod is left alone: the kubelet runs the Pod from its file, and would fight a change.
 */
export function rewriteReview(rewriting: Rewriting, review: Review): ReviewAnswer {
  const { uid, nothing, kind, isStatic, added } = review
  const unchanged = { response: { uid, allowed: true }, refused: [] } as const
  if (nothing !== undefined || kind !== 'Pod' || isStatic) return { ...unchanged, verdict: 'not-judged' }
  const patch = added.flatMap(({ image, pointer }) => {
    const value = rewriteImage(rewriting, image)
    return value === undefined ? [] : [{ op: 'replace', path: pointer, value }]
  })
  if (patch.length === 0) return { ...unchanged, verdict: 'allowed' }
  const text = Buffer.from(JSON.stringify(patch)).toString('base64')
  const response = { uid, allowed: true, patchType: 'JSONPatch', patch: text } as const
  return { response, verdict: 'rewritten', refused: [] }
}

/** The name of an image at the mirror; `undefined` if it keeps the one that it has. */
export function rewriteImage({ mirror, registries }: Rewriting, image: string): string | undefined {
  const name = parseJudgedName(image)
  if (name === undefined) return undefined
  const registry = canonicalText(name.host ?? DOCKER_HUB)
  if (registry === mirror || (registries !== 'all' && !registries.includes(registry))) return undefined
  const host = pathHostOf(registry)
  if (host === undefined) return undefined
  const isOfficial = registry === DOCKER_HUB && !name.path.includes('/')
  const path = `${host}/${isOfficial ? 'library/' : ''}${name.path}`
  if (parseRepositoryName(path) === undefined) return undefined
  const written = name.host === undefined ? name.path : `${name.host}/${name.path}`
  return `${mirror}/${path}${image.slice(written.length)}`
}
