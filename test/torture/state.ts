import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { parseContentKey } from '../../src/storage/layout.ts'
import type { FakeUpstream } from '../support/upstream.ts'
import type { PutImage } from '../support/upstream-content.ts'
import { type PullOptions, pull } from './client.ts'
import type { DaemonProcess } from './daemon.ts'
import type { Random, Tally } from './rig.ts'

export const REPOSITORY = 'team/app'

/** Puts an image with a few layers of random sizes into the upstream, under a new tag. */
export function putImage(
  upstream: FakeUpstream,
  random: Random,
  tag: string,
  layerBytesMax = 600_000,
): PutImage {
  const layers = Array.from({ length: random.between(1, 3) }, () =>
    random.bytes(random.between(1, layerBytesMax)),
  )
  const image = upstream.putImage({ layers, config: { tag, salt: random.bytes(8).toString('hex') } })
  upstream.tag(REPOSITORY, tag, image.manifest)
  return image
}

export function blobPath(digest: string): string {
  return `/v2/${REPOSITORY}/blobs/${digest}`
}

export function manifestPath(reference: string): string {
  return `/v2/${REPOSITORY}/manifests/${reference}`
}

/**
 * Pulls content by its digest and counts a complete answer with wrong bytes; true if it was complete and
 * right.
 */
export async function pullChecked(
  address: string,
  path: string,
  tally: Tally,
  options: PullOptions = {},
): Promise<boolean> {
  const pulled = await pull(address, path, options)
  if (pulled.status !== 200 || !pulled.isComplete) return false
  const digest = path.split('/').at(-1)
  if (pulled.digest === digest) return true
  tally.bad(`${path} came complete as ${pulled.digest}`)
  return false
}

/** Pulls a whole image like a client: the tag, then everything it names; true if all of it arrived. */
export async function pullImage(
  address: string,
  image: PutImage,
  tag: string,
  tally: Tally,
): Promise<boolean> {
  const named = await pull(address, manifestPath(tag))
  if (named.status === 200 && named.isComplete && named.digest !== image.manifest)
    tally.bad(`tag ${tag} came as ${named.digest} and not as ${image.manifest}`)
  const paths = [manifestPath(image.manifest), ...[image.config, ...image.layers].map(blobPath)]
  const came = await Promise.all(paths.map(async path => await pullChecked(address, path, tally)))
  return named.status === 200 && named.isComplete && came.every(Boolean)
}

/** Compares every file that is visible under a digest with that digest, in the file system itself. */
export async function verifyVisible(root: string, tally: Tally): Promise<readonly string[]> {
  const digests: string[] = []
  for (const path of await filesBelow(join(root, 'blobs'))) {
    const digest = parseContentKey(relative(root, path))
    if (digest === undefined) {
      tally.violate(`${path} lies where only content may be`)
      continue
    }
    const actual = await hashFile(path, digest.startsWith('sha512') ? 'sha512' : 'sha256')
    if (actual === digest) digests.push(digest)
    else tally.bad(`the file of ${digest} hashes to ${actual}`)
  }
  return digests
}

async function hashFile(path: string, algorithm: string): Promise<string> {
  const hash = createHash(algorithm)
  for await (const piece of createReadStream(path)) hash.update(piece as Buffer)
  return `${algorithm}:${hash.digest('hex')}`
}

/**
 * Counts leaked files in the scratch space: everything except the owner files of living daemons and, where
 * allowed, partial fills that are kept for the next fill. A living daemon may be writing a small file at this
 * moment, to see that its disk works: that counts only if it stays.
 */
export async function countLeaks(
  root: string,
  living: readonly DaemonProcess[],
  tally: Tally,
  { mayKeep }: { readonly mayKeep: boolean },
): Promise<void> {
  const spool = join(root, 'spool')
  for (const name of await entriesOf(spool)) {
    if (name === 'kept') {
      for (const path of mayKeep ? [] : await filesBelow(join(spool, name))) tally.leak(path)
      continue
    }
    const owner = await readFile(join(spool, name, 'owner'), 'latin1').catch(() => '')
    const isLiving = living.some(daemon => owner.startsWith(`${daemon.pid}\n`))
    if (!isLiving) tally.leak(join(spool, name))
    for (const file of await entriesOf(join(spool, name))) {
      const path = join(spool, name, file)
      if (file !== 'owner' && !(isLiving && (await isGoneSoon(path)))) tally.leak(path)
    }
  }
}

async function isGoneSoon(path: string): Promise<boolean> {
  const deadlineMs = performance.now() + 5000
  while (performance.now() < deadlineMs) {
    if (!existsSync(path)) return true
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  return false
}

async function entriesOf(directory: string): Promise<readonly string[]> {
  return await readdir(directory).catch(() => [])
}

async function filesBelow(directory: string): Promise<readonly string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => [])
  return entries.filter(entry => !entry.isDirectory()).map(entry => join(entry.parentPath, entry.name))
}

/** Resolves once no spool is being written, or when the time is up. */
export async function settled(root: string, living: readonly DaemonProcess[]): Promise<void> {
  const deadlineMs = performance.now() + 5000
  while (performance.now() < deadlineMs) {
    const files = await filesBelow(join(root, 'spool'))
    const isIdle = files.every(path => path.endsWith('/owner') || path.includes('/kept/'))
    if (isIdle || living.every(daemon => !daemon.isRunning)) return
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}
