import type { Mirror } from '../mirror/mirror.ts'
import { type Digest, parseDigest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import type { Tag } from '../oci/name.ts'
import type { Reference } from '../oci/reference.ts'
import type { AdminAnswers } from './contract.ts'
import { type NamingParts, namedImage } from './query.ts'
import { isoOf } from './times.ts'

/** Actor of a change whose administrator is not known by name. */
const ADMINISTRATOR = 'administrator'

interface TagParts extends NamingParts {
  readonly mirror: Mirror
  /** The administrator who asks. */
  readonly actor?: string
}

/** What a tag names, and every move of it. */
export async function tagHistory(
  parts: TagParts,
  query: URLSearchParams,
): Promise<AdminAnswers['GET history']> {
  const { source, reference, name } = await namedImage(parts, query)
  const { known, moves } = await parts.mirror.tagHistory(source, requireTag(reference))
  return {
    image: name,
    digest: known?.digest,
    heldBy: known?.heldBy,
    moves: moves.map(({ atMs, digest, by }) => ({ at: isoOf(atMs), digest, by })),
  }
}

/** Fixes a mirrored tag to a digest. */
export async function moveTag(parts: TagParts, query: URLSearchParams): Promise<AdminAnswers['PUT tags']> {
  const { source, reference, name } = await namedImage(parts, query)
  const held = { tag: requireTag(reference), digest: digestIn(query) }
  const before = await parts.mirror.holdTag(source, held, parts.actor ?? ADMINISTRATOR)
  return { image: name, digest: held.digest, before }
}

/** Lets a mirrored tag follow its upstream again. */
export async function releaseTag(
  parts: TagParts,
  query: URLSearchParams,
): Promise<AdminAnswers['DELETE tags']> {
  const { source, reference, name } = await namedImage(parts, query)
  if (await parts.mirror.releaseTag(source, requireTag(reference))) return { image: name }
  throw new OciError('MANIFEST_UNKNOWN', `${name} is not fixed to a digest`)
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
