import type * as Http from 'node:http'
import { createRequire } from 'node:module'
import type * as Jose from 'jose'

// Modules that an `import` would make larger than they need to be. `test/cli/memory.test.ts` holds what a
// mirror that nobody asks anything loads.

const require = createRequire(import.meta.url)

/**
 * A package cannot be loaded: too many files are open, or the installation is damaged. The next use tries
 * again.
 */
class PackageLoadError extends Error {
  readonly code = 'ERR_PACKAGE_NOT_LOADED'

  constructor(name: string, cause: unknown) {
    super(`the package ${name} cannot be loaded`, { cause })
    this.name = 'PackageLoadError'
  }
}

function load(name: string): unknown {
  try {
    return require(name)
  } catch (error) {
    throw new PackageLoadError(name, error)
  }
}

/**
 * The values of `node:http`. An `import` of that module reads all its exports, of which some load Node's own
 * `fetch` and web sockets, which nothing here uses: 6.5 MiB in each thread.
 */
export const { Agent, createServer, request, STATUS_CODES } = require('node:http') as typeof Http

/** Connections to registries (12 MiB), loaded with the first one. */
export function undici(): typeof import('undici') {
  return load('undici') as typeof import('undici')
}

/**
 * Tokens (4 MiB), loaded with the first one: most mirrors never see any. The rest of the package fetches keys
 * by itself.
 */
export function jose(): Pick<
  typeof Jose,
  'createLocalJWKSet' | 'decodeJwt' | 'errors' | 'jwtVerify' | 'SignJWT'
> {
  return load('jose') as typeof Jose
}

/** Versions (2 MiB), loaded with the first range. */
export function semver(): typeof import('semver') {
  return load('semver') as typeof import('semver')
}

/** The list of public suffixes (3 MiB), loaded with the first name that is looked up. */
export function tldts(): typeof import('tldts') {
  return load('tldts') as typeof import('tldts')
}
