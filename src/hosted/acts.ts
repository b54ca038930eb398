import type { Digest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import type { Tag } from '../oci/name.ts'
import type { Place } from '../oci/place.ts'
import type { StoreWrite } from '../storage/store.ts'

/** Change of a hosted repository that a client asked for. */
export type Act = Place & {
  /** The identity that acts, as the log names it; `undefined` for an anonymous client. */
  readonly by: string | undefined
} & Deed

type Deed =
  /** Bytes of an upload are about to be received: this many in all, as far as known. */
  | { readonly kind: 'receive'; readonly sizeBytes: number; readonly digest?: Digest | undefined }
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

/** A repository is about to get a blob. */
export type LinkAct = Act & { readonly kind: 'link' }

/** A tag is about to be set. */
export type TagAct = Act & { readonly kind: 'tag' }

/** Judges acts before they happen, such as a quota or a rule of immutable tags. */
export interface ActRule {
  /** Throws an `OciError` to refuse the act. Returns warnings for the client, mostly none. */
  judge(act: Act): Promise<readonly string[]>
  /** The act was done, or was not: what was set aside for it is free again. */
  ended?(act: Act): void
  /** True if the tag keeps its first digest: it may be created, and never replaced. */
  keepsFirst?(act: Act & { readonly kind: 'tag' }): boolean
}

/**
 * Sees acts after they happened and are durable, in the order in which they happened to one tag or manifest,
 * before the client is answered. Must not throw, and should be quick.
 */
export interface ActWitness {
  /**
   * The acts are allowed and about to be written. Resolves once what is kept of them survives a crash; each
   * of them is then seen, or has failed.
   */
  announced?(acts: readonly Act[]): Promise<void>
  /** An announced act that was not seen failed: its writes may have been done all the same. */
  failed?(act: Act): void
  saw(act: Act): Promise<void>
  /** Records that are written together with a tag, so that they need no sync of their own. */
  beside?(act: TagAct): Promise<readonly StoreWrite[]>
}

/** Everything that has a say in acts, or wants to know of them. */
export interface ActParties {
  readonly rules: readonly ActRule[]
  readonly witnesses: readonly ActWitness[]
  /** Resolves once all that the witnesses were told survives a crash; a client is answered after it. */
  readonly settled?: () => Promise<void>
}

/** Asks every rule; returns all warnings. Throws if one refuses. */
export async function judgeAct({ rules }: ActParties, act: Act): Promise<readonly string[]> {
  const warnings: string[] = []
  for (const rule of rules) warnings.push(...(await rule.judge(act)))
  return warnings
}

/**
 * Asks every rule about an act, and has it done. The rules know that it is under way until it is over, so
 * that acts which cannot all be allowed are not begun side by side.
 */
export async function underRules<T>(
  parties: ActParties,
  act: Act,
  action: (warnings: readonly string[]) => Promise<T>,
): Promise<T> {
  try {
    return await action(await judgeAct(parties, act))
  } finally {
    for (const rule of parties.rules) rule.ended?.(act)
  }
}

/**
 * Announces acts to every witness and has them done. The action waits for the announcement before it writes
 * what makes them happen, and reports each of them at its end.
 */
export async function announcing<T>(
  { witnesses }: ActParties,
  acts: readonly Act[],
  action: (announced: Promise<unknown>) => Promise<T>,
): Promise<T> {
  const announced = Promise.all(witnesses.map(async witness => await witness.announced?.(acts)))
  try {
    return await action(announced)
  } catch (error) {
    await announced
    for (const witness of witnesses) for (const act of acts) witness.failed?.(act)
    throw error
  }
}

/** Reports an act to every witness. */
export async function reportAct({ witnesses }: ActParties, act: Act): Promise<void> {
  for (const witness of witnesses) await witness.saw(act)
}

/** What the witnesses want to have written together with a tag. */
export async function writesBeside({ witnesses }: ActParties, act: TagAct): Promise<readonly StoreWrite[]> {
  const writes = await Promise.all(witnesses.map(async witness => (await witness.beside?.(act)) ?? []))
  return writes.flat()
}

/**
 * True if a tag keeps its first digest and has none yet. It is created and never replaced then, so that of
 * several processes on one store only one sets it.
 */
export function mustBeFirst({ rules }: ActParties, act: TagAct): boolean {
  return act.from === undefined && rules.some(rule => rule.keepsFirst?.(act) === true)
}

/** The refusal to move an immutable tag. */
export function tagTaken(tag: Tag, first: string, digest: string): OciError {
  return new OciError('TAG_IMMUTABLE', `the tag ${tag} is immutable: it names ${first}, and not ${digest}`)
}
