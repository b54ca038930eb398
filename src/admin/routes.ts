import type { ImageEntry } from '../content/index/change.ts'
import type { RequestBody } from '../http/request-body.ts'
import type { Flow } from '../mirror/fill/fills.ts'
import type { Mirror } from '../mirror/mirror.ts'
import { type Digest, hexOf } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import { formatImage } from '../oci/image-name.ts'
import type { Place } from '../oci/place.ts'
import { type Reference, referenceText } from '../oci/reference.ts'
import type { Desk } from '../space/desk.ts'
import { collectHosted } from './collect.ts'
import type { AdminAnswers, AdminStreams } from './contract.ts'
import { listEvents, replayEvents } from './events.ts'
import { explainedPull, extentOf, nextPull, reportOn } from './explain.ts'
import { takeBlob, takeManifest } from './intake.ts'
import { imageName, listBlobs, listImages, matchingImages } from './lists.ts'
import type { AdminRoutesParts } from './parts.ts'
import { imageNamed, isOn, namedImage, platformsIn, sizeIn } from './query.ts'
import { Removal } from './remove.ts'
import { createToken, explainAccess, listTokens, revokeTokens } from './robot-tokens.ts'
import { reportStatus } from './status.ts'
import { hostedUse, moveTag, releaseTag, tagHistory } from './tags.ts'
import { isoOf } from './times.ts'
import { requireUpstream, warmImage } from './warm.ts'

/** The answer of an endpoint: one value, or a stream of them. */
export type AdminResult =
  | { readonly kind: 'value'; readonly value: AdminAnswers[keyof AdminAnswers] }
  | { readonly kind: 'stream'; readonly values: AsyncIterable<AdminStreams[keyof AdminStreams]> }

type ValueEndpoint<Answer> = (
  parts: AdminRoutesParts,
  query: URLSearchParams,
  body: RequestBody,
) => Promise<Answer>

type StreamEndpoint<Line> = (
  parts: AdminRoutesParts,
  query: URLSearchParams,
  signal: AbortSignal,
) => AsyncIterable<Line>

const VALUES: { readonly [Name in keyof AdminAnswers]: ValueEndpoint<AdminAnswers[Name]> } = {
  'GET status': reportStatus,
  'GET clients': async parts => ({ clients: await parts.recentClients() }),
  'GET images': async (parts, query) => await listImages(parts.mirror, requireDesk(parts.desk), query),
  'GET blobs': async (parts, query) => await listBlobs(parts.mirror, requireDesk(parts.desk), query),
  'GET flows': listFlows,
  'DELETE flows': cancelFlow,
  'GET explain': explainImage,
  'GET tokens': listTokens,
  'POST tokens': createToken,
  'DELETE tokens': revokeTokens,
  'GET pins': listPins,
  'PUT pins': addPin,
  'DELETE pins': removePin,
  'DELETE images': deleteImage,
  'GET history': tagHistory,
  'PUT tags': moveTag,
  'DELETE tags': releaseTag,
  'GET events': async ({ notifications }, query) => await listEvents(notifications, query),
  'POST events': async ({ notifications }, query) => await replayEvents(notifications, query),
  'POST evict': evict,
  'PUT cached-manifests': takeManifest,
  'PUT cached-blobs': takeBlob,
}

const TAKING_BODIES: ReadonlySet<string> = new Set<keyof AdminAnswers>([
  'PUT cached-manifests',
  'PUT cached-blobs',
])

/** True for an endpoint that reads the body of its request. */
export function takesBody(name: string): boolean {
  return TAKING_BODIES.has(name)
}

const STREAMS: { readonly [Name in keyof AdminStreams]: StreamEndpoint<AdminStreams[Name]> } = {
  'POST warm': streamWarming,
  'POST verify': (parts, _query, signal) => parts.verify(signal),
  'POST remove': streamRemoval,
  'POST collect': ({ hosting }, query, signal) => collectHosted(hosting, query, signal),
}

/** Answers an endpoint; `undefined` if it does not exist. The signal aborts when the client leaves. */
export async function answerEndpoint(
  parts: AdminRoutesParts,
  name: string,
  query: URLSearchParams,
  { signal, body }: { readonly signal: AbortSignal; readonly body: RequestBody },
): Promise<AdminResult | undefined> {
  if (isKeyOf(STREAMS, name)) return { kind: 'stream', values: STREAMS[name](parts, query, signal) }
  if (isKeyOf(VALUES, name)) return { kind: 'value', value: await VALUES[name](parts, query, body) }
  return undefined
}

function isKeyOf<Table extends object>(table: Table, name: string): name is string & keyof Table {
  return Object.hasOwn(table, name)
}

export async function listFlows({ mirror }: AdminRoutesParts): Promise<AdminAnswers['GET flows']> {
  const running = mirror.flows.map(({ forMs, ...flow }) => ({
    ...flow,
    forMs: Math.round(forMs),
    leftMs: leftMsOf(flow),
  }))
  return await Promise.resolve({ flows: running })
}

function leftMsOf({
  sizeBytes,
  writtenBytes,
  bytesPerSecond,
}: Pick<Flow, 'sizeBytes' | 'writtenBytes' | 'bytesPerSecond'>): number | undefined {
  if (sizeBytes === undefined || bytesPerSecond === 0) return undefined
  return Math.round((Math.max(0, sizeBytes - writtenBytes) * 1000) / bytesPerSecond)
}

export async function cancelFlow(
  { mirror }: AdminRoutesParts,
  query: URLSearchParams,
): Promise<AdminAnswers['DELETE flows']> {
  const digest = runningDigest(mirror, query.get('digest') ?? '')
  return await Promise.resolve({ digest, cancelled: mirror.cancelDownloads(digest) })
}

/** The digest of the one running download that the text begins. */
function runningDigest(mirror: Mirror, text: string): Digest {
  const isPrefix = /^(?:sha(?:256|512):)?[0-9a-f]{4,}$/.test(text)
  const matching = mirror.flows.filter(
    ({ digest }) => isPrefix && (digest.startsWith(text) || hexOf(digest).startsWith(text)),
  )
  const digests = [...new Set(matching.map(({ digest }) => digest))]
  const [digest] = digests
  if (digest === undefined) throw new OciError('BLOB_UNKNOWN', 'no download with this digest is running')
  if (digests.length === 1) return digest
  throw new OciError('REQUEST_INVALID', `it means more than one download: ${digests.join(', ')}`)
}

export async function explainImage(
  parts: AdminRoutesParts,
  query: URLSearchParams,
): Promise<AdminAnswers['GET explain']> {
  const { mirror, desk, recentPulls, claimed } = parts
  const { source, reference, name } = await namedImage(parts, query)
  const claim = await claimed.verdictOn(source, reference)
  const report = await reportOn(mirror.inspection, source, reference)
  const use =
    claim?.isClosed === true
      ? await hostedUse(parts.hosting, source, reference)
      : await useOf(desk, source, reference, report.manifest?.digest)
  const as = query.get('as')
  return {
    image: name,
    access: as === null ? undefined : explainAccess(parts, as, { place: source, reference }),
    ...report,
    extent: report.manifest === undefined ? undefined : extentOf(report.manifest),
    isPinned: (await mirror.pins.list()).some(pin => nameOf(pin) === name),
    lastUse: use?.lastUseMs === undefined ? undefined : isoOf(use.lastUseMs),
    hits: use?.hits,
    lastPull: explainedPull(recentPulls.find(source, reference)),
    nextPull: nextPull(report, claim),
    claim,
  }
}

/** Uses of an image; those of its manifest if it is no image of its own. Unknown without an index. */
async function useOf(
  desk: Desk | undefined,
  place: Place,
  reference: Reference,
  digest: Digest | undefined,
): Promise<Pick<ImageEntry, 'lastUseMs' | 'hits'> | undefined> {
  if (desk === undefined || digest === undefined) return undefined
  try {
    const images = await desk.imagesOf(place)
    const own = images.find(image => (image.tag ?? image.digest) === referenceText(reference))
    return own ?? (await desk.objects([digest]))[0]
  } catch (error) {
    // The rest of the explanation needs no index.
    if (error instanceof OciError) return undefined
    throw error
  }
}

async function listPins({ mirror }: AdminRoutesParts): Promise<AdminAnswers['GET pins']> {
  const pins = await mirror.pins.list()
  return { pins: pins.map(entry => ({ image: nameOf(entry), pinnedAt: isoOf(entry.pinnedAtMs) })) }
}

export async function addPin(
  parts: AdminRoutesParts,
  query: URLSearchParams,
): Promise<AdminAnswers['PUT pins']> {
  const { source, reference, name } = await namedImage(parts, query)
  return { image: name, isNew: await parts.mirror.pins.add(source, reference) }
}

export async function removePin(
  parts: AdminRoutesParts,
  query: URLSearchParams,
): Promise<AdminAnswers['DELETE pins']> {
  const { source, reference, name } = await namedImage(parts, query)
  if (await parts.mirror.pins.remove(source, reference)) return { image: name }
  throw new OciError('MANIFEST_UNKNOWN', `${name} is not pinned`)
}

export async function deleteImage(
  parts: AdminRoutesParts,
  query: URLSearchParams,
): Promise<AdminAnswers['DELETE images']> {
  const { source, reference, name } = await namedImage(parts, query)
  const removal = removalOf(parts, isOn(query, 'dry-run'))
  return { image: name, ...(await removal.remove({ source, reference })) }
}

function removalOf(parts: AdminRoutesParts, isDryRun: boolean): Removal {
  const { shelf } = parts.hosting.hosted
  const isHosted = async (digest: Digest): Promise<boolean> => {
    for await (const _ of shelf.holds(digest)) return true
    return false
  }
  return new Removal({ ...parts, isHosted, isDryRun })
}

async function* streamRemoval(
  parts: AdminRoutesParts,
  query: URLSearchParams,
  signal: AbortSignal,
): AsyncGenerator<AdminStreams['POST remove']> {
  const desk = requireDesk(parts.desk)
  const removal = removalOf(parts, isOn(query, 'dry-run'))
  for await (const entry of matchingImages(desk, query, 'cached')) {
    signal.throwIfAborted()
    const image = imageName(entry)
    try {
      const { source, reference } = await imageNamed(parts, image)
      yield { image, ...(await removal.remove({ source, reference })) }
    } catch (error) {
      if (!(error instanceof OciError)) throw error
      yield { image, failure: error.message }
    }
  }
}

export async function* streamWarming(
  parts: AdminRoutesParts,
  query: URLSearchParams,
  signal: AbortSignal,
): AsyncGenerator<AdminStreams['POST warm']> {
  const { source, reference, name: image } = await namedImage(parts, query)
  requireUpstream(parts.hosting.isClaimed, source)
  let failed = 0
  const request = {
    source,
    reference,
    platforms: platformsIn(query),
    storeTrouble: () => parts.storeTrouble(),
  }
  for await (const event of warmImage(parts.mirror, request, signal)) {
    if (event.event === 'layer' && event.state === 'failed') failed += 1
    yield { ...event, image }
  }
  yield { event: 'done', image, failed }
}

async function evict(
  { desk }: AdminRoutesParts,
  query: URLSearchParams,
): Promise<AdminAnswers['POST evict']> {
  const [found, bytes] = [requireDesk(desk), sizeIn(query)]
  return isOn(query, 'dry-run') ? await found.plan(bytes) : await found.evict(bytes)
}

function requireDesk(desk: Desk | undefined): Desk {
  if (desk !== undefined) return desk
  throw new OciError('UNSUPPORTED', 'this mirror is read-only and keeps no index of what is stored')
}

function nameOf({ namespace, repository, reference }: Place & { readonly reference: Reference }): string {
  return formatImage(namespace, repository, reference)
}
