import { type RequestBody, readSmallBody } from '../http/request-body.ts'
import type { TakenManifest } from '../mirror/intake.ts'
import { type Digest, parseDigest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import { MANIFEST_SIZE_MAX } from '../oci/manifest.ts'
import type { AdminRoutesParts } from './parts.ts'
import { isOn, type NamedImage, namedImage, timeIn } from './query.ts'

/** Takes a manifest into the cache, and the tag of its name. */
export async function takeManifest(
  parts: AdminRoutesParts,
  query: URLSearchParams,
  body: RequestBody,
): Promise<TakenManifest> {
  const { source, reference } = await mirroredImage(parts, query)
  const bytes = await readSmallBody(body, 'manifest', MANIFEST_SIZE_MAX)
  const confirmedAtMs = timeIn(query, 'at', parts.clock.wallMs())
  const isDryRun = isOn(query, 'dry-run')
  return await parts.mirror.intake.manifest(source, { reference, bytes, confirmedAtMs, isDryRun })
}

/** Takes a blob into the cache. */
export async function takeBlob(
  parts: AdminRoutesParts,
  query: URLSearchParams,
  body: RequestBody,
): Promise<{ readonly digest: Digest }> {
  const { source } = await mirroredImage(parts, query)
  const digest = parseDigest(query.get('digest') ?? '')
  if (digest === undefined) throw new OciError('DIGEST_INVALID', 'digest must be a digest such as sha256:…')
  await parts.mirror.intake.blob(source, digest, body)
  return { digest }
}

/** Nothing is cached for a name that is hosted. */
async function mirroredImage(parts: AdminRoutesParts, query: URLSearchParams): Promise<NamedImage> {
  const named = await namedImage(parts, query)
  if (await parts.claimed.isMirrored(named.source)) return named
  throw new OciError('UNSUPPORTED', `${named.name} is hosted: push it instead`)
}
