import type { Digest, DigestAlgorithm } from '../oci/digest.ts'
import type { Tag } from '../oci/name.ts'
import type { Place } from '../oci/place.ts'
import type { Reference } from '../oci/reference.ts'
import type { UploadId } from '../oci/upload-id.ts'
import type { Asked } from './answering.ts'

/** An upload, as far as it has come. */
export interface UploadState {
  readonly id: UploadId
  readonly receivedBytes: number
}

/** Bytes that a client sends. */
export interface IncomingBytes {
  /** Yields the bytes in order; throws if the client breaks off. The pieces belong to the reader. */
  readonly pieces: AsyncIterable<Uint8Array>
  /** Number of bytes announced; `undefined` if the client did not say. */
  readonly sizeBytes: number | undefined
}

/** A part of an upload. */
export interface UploadPart extends IncomingBytes {
  /** Where the client says that the part begins; `undefined` for wherever the upload has got to. */
  readonly start: number | undefined
}

/** Result of sending a part. `out-of-order`: the part begins elsewhere, and nothing of it was taken. */
export type PartOutcome = UploadState & { readonly kind: 'taken' | 'out-of-order' }

/** A blob of another repository that a client wants in this one. */
export interface MountRequest {
  readonly digest: Digest
  /** The repository to take it from; `undefined` for any that the client may pull from. */
  readonly from: Place | undefined
  readonly mayPull: (place: Place) => boolean
}

/** A manifest that a client pushes. */
export interface IncomingManifest {
  readonly reference: Reference
  /** Tags to set besides the one of the reference. */
  readonly tags: readonly Tag[]
  readonly bytes: Uint8Array
  readonly contentType: string | undefined
}

/** A manifest that was published. */
export interface PublishedManifest {
  readonly digest: Digest
  readonly subject: Digest | undefined
  readonly warnings: readonly string[]
}

/**
 * Takes what clients push. All methods throw an `OciError` to refuse: UNSUPPORTED for a name that is not
 * hosted, BLOB_UPLOAD_UNKNOWN for an upload that does not exist in this repository, UNAVAILABLE if the store
 * cannot take it now. When a method resolves, what it reports is durable.
 */
export interface Hosting {
  /** Throws UNSUPPORTED unless the name is hosted. */
  requireHosted(place: Place): void
  beginUpload(asked: Asked, algorithm: DigestAlgorithm | undefined): Promise<UploadState>
  uploadState(asked: Asked, id: UploadId): Promise<UploadState>
  appendUpload(asked: Asked, id: UploadId, part: UploadPart): Promise<PartOutcome>
  /** Takes the last part and makes the blob of it. `undefined` after the blob is here. */
  finishUpload(
    asked: Asked,
    upload: { readonly id: UploadId; readonly digest: Digest },
    part: UploadPart,
  ): Promise<PartOutcome | undefined>
  cancelUpload(asked: Asked, id: UploadId): Promise<void>
  pushBlob(asked: Asked, digest: Digest, bytes: IncomingBytes): Promise<void>
  /** False if the blob cannot be mounted: the client uploads it then. */
  mountBlob(asked: Asked, request: MountRequest): Promise<boolean>
  pushManifest(asked: Asked, manifest: IncomingManifest): Promise<PublishedManifest>
  deleteManifest(asked: Asked, reference: Reference): Promise<void>
  deleteBlob(asked: Asked, digest: Digest): Promise<void>
}
