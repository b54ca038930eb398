import type { Config } from '../config/config.ts'
import type { HostedTerms } from '../hosted/terms.ts'
import { OciError, StoreUnavailableError, StoreUnusableError } from '../oci/error.ts'
import type { Store } from '../storage/store.ts'

export interface CreationParts {
  readonly config: Pick<Config, 'isSingleWriter' | 'isReadOnly'>
  readonly store: Pick<Store, 'creationScope'>
}

/**
 * Rejects with a `StoreUnusableError` if some tags are immutable and the store cannot keep other processes
 * from moving them. A store that does not answer is asked again with each push.
 */
export async function requireImmutableTags(
  { config, store }: CreationParts,
  policies: readonly HostedTerms[],
): Promise<void> {
  const policy = policies.find(({ immutableTags }) => immutableTags.length > 0)
  if (policy === undefined || config.isReadOnly === true) return
  const refusal = await refusalFor({ config, store }, policy).catch((error: unknown) => {
    if (!(error instanceof StoreUnavailableError)) throw error
    return undefined
  })
  if (refusal !== undefined) throw new StoreUnusableError(refusal)
}

/**
 * Throws if the tags of a policy cannot be immutable: DENIED, or the error of a store that does not answer.
 */
export async function requireCreationFor(parts: CreationParts, policy: HostedTerms): Promise<void> {
  const refusal = await refusalFor(parts, policy)
  if (refusal !== undefined) throw new OciError('DENIED', refusal)
}

async function refusalFor(
  { config, store }: CreationParts,
  { names }: HostedTerms,
): Promise<string | undefined> {
  if (config.isSingleWriter === true) return undefined
  const scope = await store.creationScope()
  if (scope.kind === 'store') return undefined
  return `immutable_tags of ${names.text} cannot hold over several processes: ${scope.why}; use another store, remove immutable_tags, or start with --single-writer if no other process ever writes to this store`
}
