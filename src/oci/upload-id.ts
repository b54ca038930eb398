import { randomUUID } from 'node:crypto'

declare const brand: unique symbol

/** Name of an upload that has begun: a random UUID, which nobody can guess. */
export type UploadId = string & { readonly [brand]: 'UploadId' }

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

/** Reads an {@link UploadId} from text; `undefined` means that the text is not one. */
export function parseUploadId(text: string): UploadId | undefined {
  return UUID.test(text) ? (text as UploadId) : undefined
}

/** Makes a new {@link UploadId}. */
export function newUploadId(): UploadId {
  return randomUUID() as string as UploadId
}
