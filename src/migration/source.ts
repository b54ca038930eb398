import { algorithmOf, type Digest, finishHash, startHash } from '../oci/digest.ts'
import type { Tag } from '../oci/name.ts'

/** A file in the storage of another registry, open for reading. */
export interface SourceFile extends AsyncDisposable {
  readonly sizeBytes: number
  readonly modifiedAtMs: number
  /** Yields all bytes, in pieces of at most 1 MiB, each valid until the next is requested. */
  read(): AsyncIterable<Uint8Array>
}

/** Something that was met on a walk: a file, or what cannot be read, with the reason. */
export type SourceEntry =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'trouble'; readonly path: string; readonly why: string }

/** The storage of another registry: a directory or a bucket. Paths are separated by `/`. Only ever read. */
export interface SourceTree extends AsyncDisposable {
  /** Name for people. */
  readonly name: string
  /** Walks the files below a directory. May skip directories that are not wanted, with all below them. */
  walk(path: string, isWanted: (directory: string) => boolean): AsyncIterable<SourceEntry>
  /**
   * Opens a file; `undefined` if it is absent. Throws a {@link SourceError} if it is something else than a
   * file, or cannot be read.
   */
  open(path: string): Promise<SourceFile | undefined>
  /** True if anything is below a directory. */
  has(path: string): Promise<boolean>
}

/** The bucket of another registry, and credentials for it. */
export interface SourceBucket {
  readonly bucket: string
  /** Of every key: empty, or ending with a slash. */
  readonly prefix: string
  /** A URL of scheme, host and port; `undefined` is Amazon's own. */
  readonly endpoint: string | undefined
  readonly region: string
  readonly isPathStyle: boolean
  /** `undefined` asks the SDK's chain. */
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string } | undefined
}

/** A tag of the other registry, and when it was set. */
export interface FoundTag {
  readonly tag: Tag
  readonly digest: Digest
  readonly setAtMs: number
}

/** A repository as the other registry keeps it. Nothing of it is proved. */
export interface FoundRepository {
  readonly name: string
  readonly manifests: readonly Digest[]
  readonly tags: readonly FoundTag[]
  /** What could not be read of it. */
  readonly troubles: readonly string[]
  /** The bytes of a manifest; `undefined` if they are absent. Throws a {@link SourceError}. */
  readManifest(digest: Digest): Promise<Uint8Array | undefined>
}

/** What another registry has. */
export interface MigrationSource {
  /** Its storage and its kind, for people. */
  readonly title: string
  /** True if it has what it fetched from other registries. Names begin with the registry then. */
  readonly isCache: boolean
  /** All repositories, or what cannot be read where a repository may be. */
  repositories(): AsyncIterable<FoundRepository | (SourceEntry & { readonly kind: 'trouble' })>
  /** Opens a blob; `undefined` if it is absent. Throws a {@link SourceError}. */
  openBlob(digest: Digest): Promise<SourceFile | undefined>
}

/** The other registry's content is damaged, or cannot be read. The message says why. */
export class SourceError extends Error {
  /** True if another attempt may succeed. */
  readonly isPassing: boolean

  constructor(
    message: string,
    { isPassing = false, ...options }: ErrorOptions & { isPassing?: boolean } = {},
  ) {
    super(message, options)
    this.name = 'SourceError'
    this.isPassing = isPassing
  }
}

/** Reads a small file; `undefined` if it is absent. */
export async function readSmall(
  tree: SourceTree,
  path: string,
  sizeMax: number,
): Promise<{ readonly bytes: Buffer; readonly modifiedAtMs: number } | undefined> {
  await using file = await tree.open(path)
  if (file === undefined) return undefined
  if (file.sizeBytes > sizeMax) throw new SourceError(`it has ${file.sizeBytes} bytes, more than ${sizeMax}`)
  const pieces: Buffer[] = []
  for await (const piece of file.read()) pieces.push(Buffer.from(piece))
  return { bytes: Buffer.concat(pieces), modifiedAtMs: file.modifiedAtMs }
}

/**
 * Yields the bytes of a file, and the last piece only once all of them are proved to hash to the digest.
 * Throws a {@link SourceError} instead if they do not.
 */
export async function* proved(file: SourceFile, digest: Digest): AsyncGenerator<Uint8Array> {
  const algorithm = algorithmOf(digest)
  const hash = startHash(algorithm)
  let held: Uint8Array | undefined
  let receivedBytes = 0
  for await (const piece of file.read()) {
    if (held !== undefined) yield held
    hash.update(piece)
    receivedBytes += piece.byteLength
    held = Buffer.from(piece)
  }
  const actual = finishHash(hash, algorithm)
  if (actual !== digest) throw new SourceError(`it is damaged: its ${receivedBytes} bytes hash to ${actual}`)
  if (held !== undefined) yield held
}
