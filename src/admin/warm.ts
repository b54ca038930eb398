import type { Answer } from '../content/answering.ts'
import type { Source } from '../mirror/sources.ts'
import type { Content, Outcome } from '../oci/content.ts'
import { type Digest, parseDigest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import { MANIFEST_SIZE_MAX, parseManifest } from '../oci/manifest.ts'
import type { Place } from '../oci/place.ts'
import { isPlatform, type Platform, platformOfConfig, platformsOf } from '../oci/platform.ts'
import type { Reference } from '../oci/reference.ts'
import type { WarmedLayer, WarmedManifest } from './contract.ts'

type WarmEvent = WarmedManifest | WarmedLayer

/** Number of layers pulled at once. */
const AT_ONCE = 4
/** Time between two reports of a layer's progress, in milliseconds. */
const REPORT_EVERY_MS = 200

/** Pulls content as for a client. */
export interface Puller {
  pullManifest(source: Source, reference: Reference): Promise<Answer>
  pullBlob(source: Source, digest: Digest): Promise<Answer>
  /** True if the content is stored, now or by the download that runs. */
  isKept(source: Source, digest: Digest): Promise<boolean>
}

/** Refuses a name that is hosted here: no registry is ever asked for it. */
export function requireUpstream(isClaimed: (place: Place) => boolean, place: Place): void {
  if (isClaimed(place))
    throw new OciError(
      'UNSUPPORTED',
      `${place.namespace}/${place.repository} is hosted here: it has no upstream to pull from`,
    )
}

/**
 * Pulls an image into the cache: its manifests for the wanted platforms (all platforms if none is given) and
 * everything that they name.
 */
export async function* warmImage(
  puller: Puller,
  request: WarmRequest,
  signal: AbortSignal,
): AsyncGenerator<WarmEvent> {
  const { source, reference, platforms } = request
  const top = await pullManifest(puller, source, reference)
  yield { event: 'manifest', digest: top.digest, platform: undefined, outcome: top.outcome }
  yield* unlessKept(puller, request, top)
  const stated = platformsOf(top.bytes)
  const wanted = top.manifests.filter(({ digest }) => isWanted(stated.get(digest), platforms))
  if (top.manifests.length > 0 && wanted.length === 0) throw lacking(platforms, [...stated.values()])
  if (top.kind === 'image') await requirePlatform(puller, { source, platforms }, top)
  const layers = new Map(top.blobs.map(blob => [blob.digest, blob.sizeBytes]))
  for (const { digest } of wanted) {
    signal.throwIfAborted()
    const child = await pullManifest(puller, source, { kind: 'digest', digest })
    yield { event: 'manifest', digest, platform: stated.get(digest), outcome: child.outcome }
    yield* unlessKept(puller, request, child)
    for (const blob of child.blobs) layers.set(blob.digest, blob.sizeBytes)
  }
  yield* pullLayers(puller, request, [...layers], signal)
}

/** Reports a manifest that was not cached as a layer that failed. */
async function* unlessKept(
  puller: Puller,
  { source, storeTrouble }: WarmRequest,
  { digest, bytes }: PulledManifest,
): AsyncGenerator<WarmEvent> {
  if (await puller.isKept(source, digest)) return
  const sizeBytes = bytes.byteLength
  yield { event: 'layer', digest, sizeBytes, doneBytes: sizeBytes, ...notKept(storeTrouble) }
}

export interface WarmRequest {
  readonly source: Source
  readonly reference: Reference
  readonly platforms: readonly Platform[]
  /** Why the store takes nothing at present; `undefined` if it does. */
  readonly storeTrouble?: () => string | undefined
}

const PULLED = { state: 'pulled' } as const

/** The state of content that was pulled whole but is not in the store. */
function notKept(storeTrouble: WarmRequest['storeTrouble']): Pick<WarmedLayer, 'state' | 'message'> {
  const trouble = storeTrouble?.()
  const reason =
    trouble === undefined
      ? 'it is larger than --max-blob or --max-size allows, or all that is cached is pinned or in use'
      : `the store takes nothing: ${trouble}`
  return { state: 'failed', message: `pulled, but not cached: ${reason}` }
}

function isWanted(stated: Platform | undefined, platforms: readonly Platform[]): boolean {
  return (
    platforms.length === 0 || (stated !== undefined && platforms.some(wanted => isPlatform(stated, wanted)))
  )
}

function lacking(platforms: readonly Platform[], offered: readonly Platform[]): OciError {
  const only = offered.length === 0 ? 'none for any platform' : `only for ${[...new Set(offered)].join(', ')}`
  return new OciError('MANIFEST_UNKNOWN', `the image has no manifest for ${platforms.join(', ')}, ${only}`)
}

/** An image without an index states its platform in its configuration. One that states none is for any. */
async function requirePlatform(
  puller: Puller,
  { source, platforms }: Pick<WarmRequest, 'source' | 'platforms'>,
  { blobs: [config] }: PulledManifest,
): Promise<void> {
  if (platforms.length === 0 || config === undefined || config.sizeBytes > MANIFEST_SIZE_MAX) return
  const { content } = await puller.pullBlob(source, config.digest)
  await using _ = content
  const platform = platformOfConfig(await readContent(content))
  if (platform !== undefined && !isWanted(platform, platforms)) throw lacking(platforms, [platform])
}

async function readContent(content: Content): Promise<Uint8Array> {
  const pieces: Uint8Array[] = []
  const range = { start: 0, end: MANIFEST_SIZE_MAX }
  for await (const piece of content.read(range, new AbortController().signal))
    pieces.push(Uint8Array.from(piece))
  return Buffer.concat(pieces)
}

interface PulledManifest extends ReturnType<typeof parseManifest> {
  readonly digest: Digest
  readonly bytes: Uint8Array
  readonly outcome: Outcome
}

async function pullManifest(puller: Puller, source: Source, reference: Reference): Promise<PulledManifest> {
  const { content, outcome } = await puller.pullManifest(source, reference)
  await using _ = content
  const bytes = await readContent(content)
  return { ...parseManifest(bytes), digest: parseDigest(content.digest) ?? content.digest, bytes, outcome }
}

/** Pulls several layers at once; yields their events in the order in which they happen. */
async function* pullLayers(
  puller: Puller,
  request: WarmRequest,
  layers: readonly (readonly [Digest, number])[],
  signal: AbortSignal,
): AsyncGenerator<WarmEvent> {
  const events: WarmEvent[] = []
  let changed = Promise.withResolvers<void>()
  const report = (event: WarmEvent): void => {
    events.push(event)
    changed.resolve()
  }
  const waiting = [...layers]
  const pullNext = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined && !signal.aborted; next = waiting.shift()) {
      await pullLayer({ puller, ...request, digest: next[0], sizeBytes: next[1] }, report, signal)
    }
  }
  const pulling = { isOver: false }
  const all = Promise.all(Array.from({ length: AT_ONCE }, pullNext)).finally(() => {
    pulling.isOver = true
    changed.resolve()
  })
  try {
    while (!pulling.isOver || events.length > 0) {
      yield* events.splice(0)
      if (pulling.isOver) continue
      await changed.promise
      changed = Promise.withResolvers()
    }
  } finally {
    waiting.length = 0
    await all
  }
}

async function pullLayer(
  layer: Pick<WarmRequest, 'source' | 'storeTrouble'> & {
    readonly puller: Puller
    readonly digest: Digest
    readonly sizeBytes: number
  },
  report: (event: WarmEvent) => void,
  signal: AbortSignal,
): Promise<void> {
  const { puller, source, digest, sizeBytes, storeTrouble } = layer
  let doneBytes = 0
  try {
    const { content, outcome } = await puller.pullBlob(source, digest)
    await using _ = content
    if (outcome === 'hit') {
      report({ event: 'layer', digest, sizeBytes, doneBytes: sizeBytes, state: 'cached' })
      return
    }
    let reportedAtMs = performance.now()
    for await (const piece of content.read({ start: 0, end: content.sizeBytes ?? Infinity }, signal)) {
      doneBytes += piece.byteLength
      if (performance.now() - reportedAtMs < REPORT_EVERY_MS) continue
      reportedAtMs = performance.now()
      report({ event: 'layer', digest, sizeBytes, doneBytes, state: 'pulling' })
    }
    signal.throwIfAborted()
    const isKept = await puller.isKept(source, digest)
    const result = isKept ? PULLED : notKept(storeTrouble)
    report({ event: 'layer', digest, sizeBytes, doneBytes, ...result })
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    report({ event: 'layer', digest, sizeBytes, doneBytes, state: 'failed', message })
  }
}
