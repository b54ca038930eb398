import { OciError, UpstreamError } from '../oci/error.ts'
import type { Namespace } from '../oci/namespace.ts'
import type { Registries, Registry, RegistryIdentity } from './registry.ts'

const NOBODY: RegistryIdentity = { text: 'offline', isUser: false }

/** Registries of a mirror that serves what is here and asks nobody. None of them has a socket. */
export class OfflineRegistries implements Registries {
  get(namespace: Namespace): Registry {
    return new OfflineRegistry(namespace)
  }
}

class OfflineRegistry implements Registry {
  readonly namespace: Namespace
  readonly hasCredentials = false

  constructor(namespace: Namespace) {
    this.namespace = namespace
  }

  async identify(): Promise<RegistryIdentity> {
    return await Promise.resolve(NOBODY)
  }

  async headManifest(): Promise<never> {
    return await Promise.reject(this.#error())
  }

  async getManifest(): Promise<never> {
    return await Promise.reject(this.#error())
  }

  async headBlob(): Promise<never> {
    return await Promise.reject(this.#refusal('BLOB_UNKNOWN', 'blob'))
  }

  /** Absent, so that the attempt ends quietly. */
  async getBlob(): Promise<undefined> {
    await Promise.resolve()
  }

  async listTags(): Promise<never> {
    return await Promise.reject(this.#refusal('NAME_UNKNOWN', 'list of tags'))
  }

  async getReferrers(): Promise<never> {
    return await Promise.reject(this.#refusal('MANIFEST_UNKNOWN', 'list of referrers'))
  }

  trouble(): undefined {
    return undefined
  }

  isRunningLow(): boolean {
    return false
  }

  onBehalfOf(): Registry {
    return this
  }

  /** Trouble, not a 404: a tag that is here stands in, however old it is. */
  #error(): UpstreamError {
    return new UpstreamError(
      'offline',
      `this mirror is offline and does not have this manifest of ${this.namespace}`,
    )
  }

  #refusal(code: 'BLOB_UNKNOWN' | 'MANIFEST_UNKNOWN' | 'NAME_UNKNOWN', what: string): OciError {
    return new OciError(code, `this mirror is offline and does not have this ${what} of ${this.namespace}`)
  }
}
