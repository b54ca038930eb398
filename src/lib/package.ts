import { readFileSync } from 'node:fs'
import { findPackageJSON } from 'node:module'
import { dirname, join } from 'node:path'

/** Version of this program, from its package.json. */
export function version(): string {
  const manifest = JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as {
    readonly version: string
  }
  return manifest.version
}

/** Path of a file of this package. The sources are in many folders below its root, the build is in one. */
export function packageFile(...names: readonly string[]): string {
  return join(dirname(findPackageJSON(import.meta.url) ?? ''), ...names)
}
