import { type Digest, matchesDigest } from '../oci/digest.ts'
import { type Descriptor, ManifestError } from '../oci/manifest.ts'
import { isForeignLayer } from '../oci/media-type.ts'
import { type PushedManifest, parsePushedManifest } from '../oci/pushed-manifest.ts'
import { type FoundRepository, type FoundTag, SourceError } from './source.ts'

/** A manifest that can be pushed once its blobs are there. */
export interface PlannedManifest {
  readonly digest: Digest
  readonly mediaType: string
  readonly sizeBytes: number
  /** Blobs that must be there first. */
  readonly blobs: readonly Descriptor[]
  /** Layers that a registry may lack; they are taken along if they are here. */
  readonly foreign: readonly Descriptor[]
  readonly children: readonly Digest[]
}

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

type Manifests = ReadonlyMap<Digest, PushedManifest & { readonly sizeBytes: number }>

/** Reads and proves the manifests of a repository, and puts them in order. */
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
    ;(levels[height] ??= []).push(planned(digest, manifest))
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
  const manifests = new Map<Digest, PushedManifest & { readonly sizeBytes: number }>()
  const refused = new Map<Digest, string>()
  for (const digest of found.manifests) {
    const read = await readManifest(found, digest)
    if (typeof read === 'string') refused.set(digest, read)
    else manifests.set(digest, read)
  }
  return { manifests, refused }
}

async function readManifest(
  found: FoundRepository,
  digest: Digest,
): Promise<(PushedManifest & { readonly sizeBytes: number }) | string> {
  try {
    const bytes = await found.readManifest(digest)
    if (bytes === undefined) return 'its bytes are missing'
    if (!matchesDigest(bytes, digest)) return 'it is damaged: its bytes have another digest'
    return { ...parsePushedManifest(bytes), sizeBytes: bytes.byteLength }
  } catch (error) {
    if (error instanceof ManifestError) return `it cannot be hosted: ${error.message}`
    if (error instanceof SourceError && !error.isPassing) return error.message
    throw error
  }
}

/** Number of manifests below one another; `undefined`, with the reason noted, if one is missing. */
function heightOf(
  digest: Digest,
  seen: {
    readonly manifests: Manifests
    readonly refused: Map<Digest, string>
    readonly heights: Map<Digest, number>
  },
): number | undefined {
  const { manifests, refused, heights } = seen
  const known = heights.get(digest)
  const manifest = manifests.get(digest)
  if (known !== undefined || manifest === undefined || refused.has(digest)) return known
  let height = 0
  for (const child of manifest.manifests) {
    const below = heightOf(child.digest, seen)
    if (below === undefined) {
      const what = refused.has(child.digest) ? 'is not imported' : 'the repository does not have'
      refused.set(digest, `it names the manifest ${child.digest}, which ${what}`)
      return undefined
    }
    height = Math.max(height, below + 1)
  }
  heights.set(digest, height)
  return height
}

/** Manifests that tags name, those below them, and those that refer to them. */
function reachable(tags: readonly FoundTag[], manifests: Manifests): ReadonlySet<Digest> {
  const referrers = new Map<Digest, Digest[]>()
  for (const [digest, { subject }] of manifests)
    if (subject !== undefined) referrers.set(subject, [...(referrers.get(subject) ?? []), digest])
  const found = new Set<Digest>()
  const waiting = tags.map(({ digest }) => digest)
  for (let digest = waiting.pop(); digest !== undefined; digest = waiting.pop()) {
    if (found.has(digest)) continue
    found.add(digest)
    const children = manifests.get(digest)?.manifests ?? []
    waiting.push(...children.map(child => child.digest), ...(referrers.get(digest) ?? []))
  }
  return found
}

function planned(
  digest: Digest,
  { mediaType, sizeBytes, blobs, manifests }: PushedManifest & { readonly sizeBytes: number },
): PlannedManifest {
  const isForeign = (blob: Descriptor): boolean => isForeignLayer(blob.mediaType)
  return {
    digest,
    mediaType,
    sizeBytes,
    blobs: blobs.filter(blob => !isForeign(blob)),
    foreign: blobs.filter(isForeign),
    children: manifests.map(child => child.digest),
  }
}
