import { type Digest, matchesDigest } from '../oci/digest.ts'
import { type Descriptor, ManifestError } from '../oci/manifest.ts'
import { isForeignLayer } from '../oci/media-type.ts'
import { parsePushedManifest } from '../oci/pushed-manifest.ts'
import { type FoundRepository, type FoundTag, SourceError } from './source.ts'

/** A manifest that can be pushed once its blobs are there. */
export interface PlannedManifest {
  readonly digest: Digest
  readonly mediaType: string
  readonly sizeBytes: number
  /** Blobs that must be there first. */
  readonly blobs: readonly PlannedBlob[]
  /** Layers that a registry may lack; they are taken along if they are here. */
  readonly foreign: readonly PlannedBlob[]
  readonly children: readonly Digest[]
  /** The manifest that this one refers to. */
  readonly subject: Digest | undefined
}

/** One object for each blob of a repository, however many manifests name it. */
export type PlannedBlob = Pick<Descriptor, 'digest' | 'sizeBytes'>

/** Something that is not imported, and why. */
export interface Omission {
  /** Such as `tag 1.0` or `manifest sha256:…`; empty for a whole repository. */
  readonly what: string
  readonly why: string
}

/** What of a repository can be imported, in which order, and what cannot. */
export interface RepositoryPlan {
  /** Each level names only manifests of the levels before it. */
  readonly levels: readonly (readonly PlannedManifest[])[]
  /** In the order in which they were set. */
  readonly tags: readonly FoundTag[]
  readonly omissions: readonly Omission[]
}

type Manifests = ReadonlyMap<Digest, PlannedManifest>

/**
 * Reads and proves the manifests of a repository, and puts them in order. Of their bytes nothing is kept:
 * there may be a hundred thousand of them.
 */
export async function planRepository(
  found: FoundRepository,
  { isTaggedOnly }: { readonly isTaggedOnly: boolean },
): Promise<RepositoryPlan> {
  const { manifests, refused } = await readManifests(found)
  const wanted = isTaggedOnly ? reachable(found.tags, manifests) : new Set(found.manifests)
  const heights = new Map<Digest, number>()
  const levels: PlannedManifest[][] = []
  for (const digest of wanted) {
    const height = heightOf(digest, { manifests, refused, heights })
    const manifest = manifests.get(digest)
    if (height === undefined || manifest === undefined) continue
    ;(levels[height] ??= []).push(manifest)
  }
  const omitted = [...refused].filter(([digest]) => wanted.has(digest))
  const tags = found.tags.toSorted((one, other) => one.setAtMs - other.setAtMs)
  return {
    levels: levels.map(level => level ?? []),
    tags: tags.filter(({ digest }) => heights.has(digest)),
    omissions: [
      ...found.troubles.map(why => ({ what: '', why })),
      ...omitted.map(([digest, why]) => ({ what: `manifest ${digest}`, why })),
      ...tags
        .filter(({ digest }) => !heights.has(digest))
        .map(({ tag, digest }) => ({ what: `tag ${tag}`, why: whyNot(digest, refused) })),
    ],
  }
}

function whyNot(digest: Digest, refused: ReadonlyMap<Digest, string>): string {
  return refused.has(digest)
    ? `its manifest ${digest} is not imported`
    : `it names ${digest}, which the repository does not have`
}

async function readManifests(
  found: FoundRepository,
): Promise<{ readonly manifests: Manifests; readonly refused: Map<Digest, string> }> {
  const manifests = new Map<Digest, PlannedManifest>()
  const refused = new Map<Digest, string>()
  const blobs = new Map<Digest, PlannedBlob>()
  for (const digest of found.manifests) {
    const read = await readManifest(found, digest, blobs)
    if (typeof read === 'string') refused.set(digest, read)
    else manifests.set(digest, read)
  }
  return { manifests, refused }
}

async function readManifest(
  found: FoundRepository,
  digest: Digest,
  known: Map<Digest, PlannedBlob>,
): Promise<PlannedManifest | string> {
  try {
    const bytes = await found.readManifest(digest)
    if (bytes === undefined) return 'its bytes are missing'
    if (!matchesDigest(bytes, digest)) return 'it is damaged: its bytes have another digest'
    return planned(digest, bytes, known)
  } catch (error) {
    if (error instanceof ManifestError) return `it cannot be hosted: ${error.message}`
    if (error instanceof SourceError && !error.isPassing) return error.message
    throw error
  }
}

/**
 * Number of manifests below one another; `undefined`, with the reason noted, if one is missing. Indexes may
 * be nested to any depth, so those that wait for the ones below them are in a list and not on the stack.
 */
function heightOf(
  digest: Digest,
  seen: {
    readonly manifests: Manifests
    readonly refused: Map<Digest, string>
    readonly heights: Map<Digest, number>
  },
): number | undefined {
  const { manifests, refused, heights } = seen
  const waiting = [digest]
  for (let current = waiting.at(-1); current !== undefined; current = waiting.at(-1)) {
    const children = manifests.get(current)?.children ?? []
    const isOpen = (each: Digest): boolean => manifests.has(each) && !refused.has(each) && !heights.has(each)
    const open = isOpen(current) ? children.filter(isOpen) : []
    if (open.length > 0) {
      waiting.push(...open)
      continue
    }
    waiting.pop()
    if (isOpen(current)) settle(current, children, seen)
  }
  return heights.get(digest)
}

/** Notes the height of a manifest, of which everything below it is known. */
function settle(
  digest: Digest,
  children: readonly Digest[],
  { refused, heights }: { readonly refused: Map<Digest, string>; readonly heights: Map<Digest, number> },
): void {
  let height = 0
  for (const child of children) {
    const below = heights.get(child)
    if (below === undefined) {
      const what = refused.has(child) ? 'is not imported' : 'the repository does not have'
      refused.set(digest, `it names the manifest ${child}, which ${what}`)
      return
    }
    height = Math.max(height, below + 1)
  }
  heights.set(digest, height)
}

/** Manifests that tags name, those below them, and those that refer to them. */
function reachable(tags: readonly FoundTag[], manifests: Manifests): ReadonlySet<Digest> {
  const referrers = new Map<Digest, Digest[]>()
  for (const [digest, { subject }] of manifests) {
    if (subject === undefined) continue
    const others = referrers.get(subject)
    if (others === undefined) referrers.set(subject, [digest])
    else others.push(digest)
  }
  const found = new Set<Digest>()
  const waiting = tags.map(({ digest }) => digest)
  for (let digest = waiting.pop(); digest !== undefined; digest = waiting.pop()) {
    if (found.has(digest)) continue
    found.add(digest)
    waiting.push(...(manifests.get(digest)?.children ?? []), ...(referrers.get(digest) ?? []))
  }
  return found
}

function planned(digest: Digest, bytes: Uint8Array, known: Map<Digest, PlannedBlob>): PlannedManifest {
  const { mediaType, blobs, manifests, subject } = parsePushedManifest(bytes)
  const kept = (isForeign: boolean): readonly PlannedBlob[] =>
    blobs
      .filter(blob => isForeignLayer(blob.mediaType) === isForeign)
      .map(blob => known.get(blob.digest) ?? remembered(known, blob))
  const children = manifests.map(child => child.digest)
  const sizeBytes = bytes.byteLength
  return { digest, mediaType, sizeBytes, blobs: kept(false), foreign: kept(true), children, subject }
}

function remembered(known: Map<Digest, PlannedBlob>, { digest, sizeBytes }: Descriptor): PlannedBlob {
  const blob = { digest, sizeBytes }
  known.set(digest, blob)
  return blob
}
