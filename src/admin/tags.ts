import type { TagHistory } from '../content/tag-history.ts'
import type { Hosted } from '../hosted/hosted.ts'
import type { PullBook } from '../hosted/pulls.ts'
import type { HostedUpkeep } from '../hosted/upkeep.ts'
import type { Mirror } from '../mirror/mirror.ts'
import { type Digest, parseDigest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import type { Tag } from '../oci/name.ts'
import type { Place } from '../oci/place.ts'
import type { Reference } from '../oci/reference.ts'
import type { AdminAnswers } from './contract.ts'
import { type NamingParts, namedImage } from './query.ts'
import { isoOf } from './times.ts'

/** Actor of a change whose administrator is not known by name. */
const ADMINISTRATOR = 'administrator'

/** What administrators ask about hosted repositories. */
export interface HostingDesk {
  readonly hosted: Hosted
  readonly history: TagHistory
  readonly upkeep: HostedUpkeep
  readonly pulls: PullBook
  readonly isClaimed: (place: Place) => boolean
}

/** Uses of a hosted image: pulls of its tag. */
export async function hostedUse(
  { pulls }: Pick<HostingDesk, 'pulls'>,
  place: Place,
  reference: Reference,
): Promise<{ readonly lastUseMs: number | undefined; readonly hits: number } | undefined> {
  if (reference.kind !== 'tag') return undefined
  const last = (await pulls.last(place, [reference.tag], { begins: false })).get(reference.tag)
  return last === undefined ? undefined : { lastUseMs: last.knownMs, hits: last.hits }
}

interface TagParts extends NamingParts {
  readonly mirror: Mirror
  /** The administrator who asks. */
  readonly actor?: string
  readonly hosting: HostingDesk
}

/** What a tag names, and every move of it. */
export async function tagHistory(
  parts: TagParts,
  query: URLSearchParams,
): Promise<AdminAnswers['GET history']> {
  const { source, reference, name } = await namedImage(parts, query)
  const tag = requireTag(reference)
  const { hosting, mirror } = parts
  const { known, moves } = hosting.isClaimed(source)
    ? { known: await hosting.hosted.shelf.tag(source, tag), moves: await hosting.history.read(source, tag) }
    : await mirror.tagHistory(source, tag)
  return {
    image: name,
    digest: known?.digest,
    heldBy: known !== undefined && 'heldBy' in known ? known.heldBy : undefined,
    moves: moves.map(({ atMs, digest, by }) => ({ at: isoOf(atMs), digest, by })),
  }
}

/** Fixes a mirrored tag to a digest. */
export async function moveTag(parts: TagParts, query: URLSearchParams): Promise<AdminAnswers['PUT tags']> {
  const { source, reference, name } = await namedImage(parts, query)
  const held = { tag: requireTag(reference), digest: digestIn(query) }
  const by = parts.actor ?? ADMINISTRATOR
  const before = parts.hosting.isClaimed(source)
    ? await setHostedTag(parts.hosting.hosted, source, { ...held, by })
    : await parts.mirror.holdTag(source, held, by)
  return { image: name, digest: held.digest, before }
}

/** Lets a mirrored tag follow its upstream again. */
export async function releaseTag(
  parts: TagParts,
  query: URLSearchParams,
): Promise<AdminAnswers['DELETE tags']> {
  const { source, reference, name } = await namedImage(parts, query)
  if (parts.hosting.isClaimed(source))
    throw new OciError('UNSUPPORTED', `${name} is hosted: it has no upstream to follow`)
  if (await parts.mirror.releaseTag(source, requireTag(reference))) return { image: name }
  throw new OciError('MANIFEST_UNKNOWN', `${name} is not fixed to a digest`)
}

/** Sets a hosted tag, under the same rules as a push. Returns the digest that it had before. */
async function setHostedTag(
  hosted: Hosted,
  place: Place,
  { tag, digest, by }: { readonly tag: Tag; readonly digest: Digest; readonly by: string },
): Promise<Digest | undefined> {
  const before = (await hosted.shelf.tag(place, tag))?.digest
  await hosted.publishing.tag({ place, by }, tag, digest)
  return before
}

function requireTag(reference: Reference): Tag {
  if (reference.kind === 'tag') return reference.tag
  throw new OciError('NAME_INVALID', 'the image must be named by a tag, not by a digest')
}

function digestIn(query: URLSearchParams): Digest {
  const digest = parseDigest(query.get('digest') ?? '')
  if (digest !== undefined) return digest
  throw new OciError('DIGEST_INVALID', 'digest must be a digest such as sha256:…')
}
