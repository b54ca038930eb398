import { type SourceBucket, SourceError, type SourceFile, type SourceTree } from '../migration/source.ts'
import { StoreUnavailableError } from '../oci/error.ts'
import { S3Connection } from '../storage/s3/connection.ts'
import { listKeys } from '../storage/s3/list.ts'
import { openS3Object } from '../storage/s3/object.ts'

/** Opens the bucket of another registry, to read it. */
export function openSourceBucket(address: SourceBucket): SourceTree {
  // Its trouble reaches the operator as the failure of a request.
  const connection = new S3Connection({ address, events: { warned: () => undefined } })
  return {
    name: `s3://${address.bucket}/${address.prefix}`,
    walk: async function* (path) {
      // A list costs one request for a thousand keys, wanted or not.
      for await (const { name } of listed(connection, `${path}/`)) yield { kind: 'file', path: name }
    },
    open: async path => await open(connection, path),
    has: async path => {
      for await (const _ of listed(connection, `${path}/`)) return true
      return false
    },
    [Symbol.asyncDispose]: async () => await Promise.resolve(connection[Symbol.dispose]()),
  }
}

async function* listed(connection: S3Connection, beginning: string): ReturnType<typeof listKeys> {
  try {
    yield* listKeys(connection, beginning)
  } catch (error) {
    throw sourceError(error)
  }
}

async function open(connection: S3Connection, path: string): Promise<SourceFile | undefined> {
  try {
    const object = await openS3Object(connection, connection.key(path))
    if (object === undefined) return undefined
    return {
      sizeBytes: object.sizeBytes,
      modifiedAtMs: object.modifiedAtMs,
      read: () => piecesOf(object),
      [Symbol.asyncDispose]: async () => await object[Symbol.asyncDispose](),
    }
  } catch (error) {
    throw sourceError(error)
  }
}

async function* piecesOf(
  object: NonNullable<Awaited<ReturnType<typeof openS3Object>>>,
): AsyncGenerator<Uint8Array> {
  try {
    yield* object.read(0, object.sizeBytes)
  } catch (error) {
    throw sourceError(error)
  }
}

/** A bucket that does not answer says nothing about its content. */
function sourceError(error: unknown): SourceError {
  const isPassing = error instanceof StoreUnavailableError
  const message = error instanceof Error ? error.message : String(error)
  return new SourceError(`it cannot be read: ${message}`, { cause: error, isPassing })
}
