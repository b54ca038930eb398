import type { Proofs } from '../../content/proofs.ts'
import type { Events } from '../../observe/events.ts'
import { traced } from '../../observe/tracing/span.ts'
import type { Digest } from '../../oci/digest.ts'
import type { SpoolFile, Store } from '../../storage/store.ts'
import type { BlobBody } from '../../upstream/registry.ts'

interface StoringParts {
  readonly store: Pick<Store, 'adopt' | 'open'>
  readonly proofs: Pick<Proofs, 'holds' | 'trust'>
  readonly events: Pick<Events, 'storageFailed' | 'bypassChanged'>
}

/** A file whose bytes have matched their digest. */
interface ProvedFile {
  readonly digest: Digest
  readonly file: SpoolFile
  readonly sizeBytes: number
  /** Of the replica that sent the bytes, if it is about to store them in the store that is ours too. */
  readonly isKept: BlobBody['isKept']
}

export type Storing = 'stored' | 'not-stored'

/**
 * Has the store adopt a proved file, unless another namespace or another replica has stored the same bytes.
 * Never rejects: a store that fails is reported.
 */
export async function storeProved(
  { store, proofs, events }: StoringParts,
  proved: ProvedFile,
  abandoned: AbortSignal,
): Promise<Storing> {
  const { digest, file, sizeBytes, isKept } = proved
  try {
    // Another namespace may have stored the same bytes already; its object stays.
    if (await proofs.holds(digest)) return 'stored'
    if (await isKeptByPeer(store, proved, abandoned)) return 'stored'
    // The replica goes on storing it. To do the same would hold up our own end.
    if (isKept !== undefined && abandoned.aborted) return 'not-stored'
    await traced('store', () => store.adopt(file, digest, sizeBytes))
    await proofs.trust(digest)
    events.bypassChanged(false)
    return 'stored'
  } catch (error) {
    events.storageFailed('adopt', error)
    events.bypassChanged(true, 'blobs', error)
    return 'not-stored'
  }
}

/**
 * True if the replica that sent the bytes has stored them in the store that is ours too. Its word is not
 * enough: the store must have them. They are proved again when they are first read.
 */
async function isKeptByPeer(
  store: Pick<Store, 'open'>,
  { digest, sizeBytes, isKept }: ProvedFile,
  abandoned: AbortSignal,
): Promise<boolean> {
  if (isKept === undefined || !(await isKept(abandoned))) return false
  await using object = await store.open(digest)
  return object?.sizeBytes === sizeBytes
}
