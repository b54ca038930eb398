import type { Digest } from '../oci/digest.ts'
import type { Tag } from '../oci/name.ts'
import type { PlannedBlob } from './plan.ts'
import { proved, type SourceFile } from './source.ts'

/** A manifest as it is pushed. */
export interface MovedManifest {
  readonly digest: Digest
  readonly mediaType: string
  readonly bytes: Uint8Array
}

/** A blob that was opened in the source. */
export interface MovedBlob {
  readonly digest: Digest
  /** Opens it again for each attempt; rejects with a `SourceError` if it is missing. */
  readonly open: () => Promise<SourceFile>
}

/** Where content goes. Repositories are named as its clients name them. Refusals are {@link TargetError}s. */
export interface MigrationTarget {
  /** True if nothing is sent. */
  readonly isDry: boolean
  /** Begins and cancels an upload: a push to the repository would be refused for the same reason. */
  requirePush(repository: string): Promise<void>
  hasBlob(repository: string, digest: Digest): Promise<boolean>
  /** Gives the repository a blob; returns the number of bytes that were sent for it. */
  pushBlob(repository: string, blob: MovedBlob): Promise<number>
  /** The digest that a manifest or tag has there; `undefined` if it is absent. */
  digestOf(repository: string, reference: Digest | Tag): Promise<Digest | undefined>
  pushManifest(repository: string, manifest: MovedManifest): Promise<void>
  setTag(repository: string, tag: Tag, manifest: MovedManifest): Promise<void>
}

/** What became of a manifest in the cache. */
export interface CachedManifest {
  readonly isNew: boolean
  /** Blobs that it names and that are not in the cache. */
  readonly missing: readonly PlannedBlob[]
  /** `kept`: the tag was confirmed later than that, or is held; `undefined` if no tag was named. */
  readonly tag?: 'set' | 'same' | 'kept' | undefined
}

/** Where cached content goes. Refusals are {@link TargetError}s. */
export interface CacheTarget {
  /** True if the repository is mirrored, so that its content belongs in the cache. */
  isMirrored(repository: string): Promise<boolean>
  /** Caches a manifest, and the tag if the reference is one, as of the time when it was confirmed. */
  takeManifest(
    repository: string,
    manifest: {
      readonly reference: Digest | Tag
      readonly bytes: Uint8Array
      readonly confirmedAtMs?: number
    },
  ): Promise<CachedManifest>
  /** Caches a blob, unless its bytes prove to be others. */
  takeBlob(repository: string, digest: Digest, file: SourceFile): Promise<void>
}

/** The target refused, or gave no answer. The message is for people. */
export class TargetError extends Error {
  /**
   * `item`: this blob, manifest or tag is refused. `name`, `rights`: the whole repository is, because it is
   * not hosted or because of the login. `all`: the target cannot be used now.
   */
  readonly concerns: 'item' | 'name' | 'rights' | 'all'

  constructor(concerns: TargetError['concerns'], message: string, options: ErrorOptions = {}) {
    super(message, options)
    this.name = 'TargetError'
    this.concerns = concerns
  }
}

/** A dry run: asks the target everything, proves what would be sent, and sends nothing. */
export class RehearsedTarget implements MigrationTarget {
  readonly isDry = true
  readonly #target: MigrationTarget

  constructor(target: MigrationTarget) {
    this.#target = target
  }

  async requirePush(repository: string): Promise<void> {
    await this.#target.requirePush(repository)
  }

  async hasBlob(repository: string, digest: Digest): Promise<boolean> {
    return await this.#target.hasBlob(repository, digest)
  }

  async pushBlob(_repository: string, { digest, open }: MovedBlob): Promise<number> {
    await using file = await open()
    let bytes = 0
    for await (const piece of proved(file, digest)) bytes += piece.byteLength
    return bytes
  }

  async digestOf(repository: string, reference: Digest | Tag): Promise<Digest | undefined> {
    return await this.#target.digestOf(repository, reference)
  }

  async pushManifest(): Promise<void> {
    await Promise.resolve()
  }

  async setTag(): Promise<void> {
    await Promise.resolve()
  }
}
