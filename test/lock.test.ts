import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

interface LockedPackage {
  readonly optionalDependencies?: Readonly<Record<string, string>>
  readonly resolved?: string
}

const lock = JSON.parse(readFileSync(new URL('../package-lock.json', import.meta.url), 'utf8')) as {
  readonly packages: Readonly<Record<string, LockedPackage>>
}

test('the lock file names every optional package, as `npm ci` refuses one that does not', () => {
  const missing = Object.entries(lock.packages).flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies).filter(
      name =>
        !(`node_modules/${name}` in lock.packages) && !(`${path}/node_modules/${name}` in lock.packages),
    ),
  )
  assert.ok(Object.keys(lock.packages).length > 50)
  assert.deepEqual(missing, [])
})

test('the lock file names no address that packages were downloaded from', () => {
  for (const [path, { resolved }] of Object.entries(lock.packages)) assert.equal(resolved, undefined, path)
})
