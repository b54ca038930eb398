import { proved, SourceError, type SourceFile } from '../migration/source.ts'
import { type CachedManifest, type CacheTarget, TargetError } from '../migration/target.ts'
import type { Digest } from '../oci/digest.ts'
import { type AdminConnection, AdminError } from './admin/connection.ts'

/** The cache of a running mirror, behind its admin listener. */
export class AdminCache implements CacheTarget {
  readonly #connection: AdminConnection
  readonly #isDryRun: boolean

  constructor(connection: AdminConnection, { isDryRun }: { readonly isDryRun: boolean }) {
    this.#connection = connection
    this.#isDryRun = isDryRun
  }

  async isMirrored(repository: string): Promise<boolean> {
    const { claim } = await told(() => this.#connection.ask('GET explain', { image: repository }))
    return claim?.isClosed !== true
  }

  async takeManifest(
    repository: string,
    { reference, bytes, confirmedAtMs }: Parameters<CacheTarget['takeManifest']>[1],
  ): Promise<CachedManifest> {
    const query = {
      image: `${repository}${reference.includes(':') ? '@' : ':'}${reference}`,
      at: confirmedAtMs === undefined ? undefined : new Date(confirmedAtMs).toISOString(),
      'dry-run': String(this.#isDryRun),
    }
    const body = { pieces: [bytes], sizeBytes: bytes.byteLength }
    return await told(() => this.#connection.send('PUT cached-manifests', query, body))
  }

  async takeBlob(repository: string, digest: Digest, file: SourceFile): Promise<void> {
    let damage: unknown
    const pieces = (async function* () {
      try {
        yield* proved(file, digest)
      } catch (error) {
        damage = error
        throw error
      }
    })()
    if (this.#isDryRun) {
      for await (const _ of pieces);
      return
    }
    const body = { pieces, sizeBytes: file.sizeBytes }
    try {
      await told(() => this.#connection.send('PUT cached-blobs', { image: repository, digest }, body))
    } catch (error) {
      throw damage instanceof SourceError ? damage : error
    }
  }
}

/** Without an answer, or with one about the login, nothing else will be taken either. */
async function told<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return await ask()
  } catch (error) {
    if (!(error instanceof AdminError)) throw error
    const { status = 0 } = error
    const isOfItem = status >= 400 && ![401, 404, 500].includes(status)
    throw new TargetError(isOfItem ? 'item' : 'all', error.message, { cause: error })
  }
}
