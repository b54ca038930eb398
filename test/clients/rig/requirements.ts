import { accessSync, constants } from 'node:fs'
import { isAbsolute } from 'node:path'
import { containerd24, cri, ctr } from './clients/containerd.ts'
import { podman, skopeo } from './clients/containers-image.ts'
import { buildkit, dockerd } from './clients/dockerd.ts'
import type { PullerKind } from './clients/puller.ts'

/** Every client of the suite. */
export const KINDS: readonly PullerKind[] = [ctr, cri, containerd24, dockerd, buildkit, podman, skopeo]

const DIRECTORIES = ['/usr/sbin', '/usr/bin', '/sbin', '/bin']
const RIG = ['setpriv', 'unshare', 'nsenter', 'mount', 'openssl', 'docker-registry', 'busybox']

/** Where a missing client is a failure and not a reason to skip. */
const mustRun = process.env['CI'] === 'true' || process.env['ENTREPOT_REQUIRE_CLIENTS'] === '1'

/** What the machine lacks for the rig itself, in words. */
export function lackingForRig(): readonly string[] {
  const root = process.getuid?.() === 0 ? [] : ['root']
  return [...root, ...RIG.filter(isMissing)]
}

/** What the machine lacks for one client. */
export function lackingFor(kind: PullerKind): readonly string[] {
  return kind.executables.filter(isMissing)
}

/**
 * The `skip` option of a test that needs what may be lacking: why it is skipped, or `false` where it must
 * run.
 */
export function skipFor(lacking: readonly string[]): string | false {
  return mustRun || lacking.length === 0 ? false : `this machine lacks ${lacking.join(', ')}`
}

/** True if no directory of programs has an executable. */
export function isMissing(executable: string): boolean {
  const paths = isAbsolute(executable)
    ? [executable]
    : DIRECTORIES.map(directory => `${directory}/${executable}`)
  return !paths.some(path => {
    try {
      accessSync(path, constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}
