import type { Digest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import type { Tag } from '../oci/name.ts'
import type { Place } from '../oci/place.ts'
import type { HostedTag } from './records.ts'
import type { Shelf } from './shelf.ts'

/** Change of a hosted repository that a client asked for. */
export type Act = Place & {
  /** The identity that acts, as the log names it; `undefined` for an anonymous client. */
  readonly by: string | undefined
} & Deed

type Deed =
  /** Bytes of an upload are about to be received: this many in all, as far as known. */
  | { readonly kind: 'receive'; readonly sizeBytes: number }
  /** The repository gets a blob, by an upload or by a mount. */
  | { readonly kind: 'link'; readonly digest: Digest; readonly sizeBytes: number }
  | { readonly kind: 'unlink'; readonly digest: Digest }
  /** The repository gets a manifest; `isNew` is false if it has it already. */
  | {
      readonly kind: 'publish'
      readonly digest: Digest
      readonly mediaType: string
      readonly sizeBytes: number
      readonly subject: Digest | undefined
      readonly isNew: boolean
    }
  | { readonly kind: 'withdraw'; readonly digest: Digest }
  /** A tag is set; `from` is the manifest that it named before. */
  | { readonly kind: 'tag'; readonly tag: Tag; readonly digest: Digest; readonly from: Digest | undefined }
  | { readonly kind: 'untag'; readonly tag: Tag; readonly from: Digest }

/** Judges acts before they happen, such as a quota or a rule of immutable tags. */
export interface ActRule {
  /** Throws an `OciError` to refuse the act. Returns warnings for the client, mostly none. */
  judge(act: Act): Promise<readonly string[]>
  /** True if the tag keeps its first digest: it may be created, and never replaced. */
  keepsFirst?(act: Act & { readonly kind: 'tag' }): boolean
}

/**
 * Sees acts after they happened and are durable, in the order in which they happened to one tag or manifest,
 * before the client is answered. Must not throw, and should be quick.
 */
export interface ActWitness {
  saw(act: Act): Promise<void>
}

/** Everything that has a say in acts, or wants to know of them. */
export interface ActParties {
  readonly rules: readonly ActRule[]
  readonly witnesses: readonly ActWitness[]
}

/** Asks every rule; returns all warnings. Throws if one refuses. */
export async function judgeAct({ rules }: ActParties, act: Act): Promise<readonly string[]> {
  const warnings: string[] = []
  for (const rule of rules) warnings.push(...(await rule.judge(act)))
  return warnings
}

/** Reports an act to every witness. */
export async function reportAct({ witnesses }: ActParties, act: Act): Promise<void> {
  for (const witness of witnesses) await witness.saw(act)
}

/** A tag that is about to be set. */
type TagAct = Act & { readonly kind: 'tag' }

/**
 * Sets a tag after every rule has agreed. A tag that keeps its first digest is created and never replaced, so
 * that of several processes on one store only one sets it. The others learn what it names.
 */
export async function setJudgedTag(
  { rules }: ActParties,
  shelf: Shelf,
  act: TagAct,
  record: HostedTag,
): Promise<void> {
  const { tag, digest, from } = act
  if (from === undefined && rules.some(rule => rule.keepsFirst?.(act) === true)) {
    const first = await shelf.createTag(act, tag, record)
    if (first !== undefined && first !== digest) throw tagTaken(tag, first, digest)
    return
  }
  await shelf.setTag(act, tag, record)
  if (from !== undefined && from !== digest) await shelf.forgetTagged(act, from, tag)
}

/** The refusal to move an immutable tag. */
export function tagTaken(tag: Tag, first: string, digest: string): OciError {
  return new OciError('TAG_IMMUTABLE', `the tag ${tag} is immutable: it names ${first}, and not ${digest}`)
}
