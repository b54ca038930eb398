import { parseConfiguredNamespace } from '../../oci/namespace.ts'
import { COMMON } from './common.ts'
import { CONTAINERD } from './containerd.ts'
import { CONTAINERS_IMAGE } from './containers-image.ts'
import { DOCKER } from './docker.ts'

const BODIES: ReadonlyMap<string, string> = new Map([
  ['containerd', CONTAINERD],
  ['docker', DOCKER],
  ['podman', CONTAINERS_IMAGE],
  ['crio', CONTAINERS_IMAGE],
])

/** The address of the mirror, as the client that asks for a script has it. */
export interface AskedAddress {
  /** The `Host` field of the request. */
  readonly host: string | undefined
  readonly isEncrypted: boolean
}

/**
 * The URL of an asked address; `undefined` if it is no host. The text gets into a script, so nothing but the
 * characters of hosts passes.
 */
export function mirrorUrl({ host = '', isEncrypted }: AskedAddress): string | undefined {
  if (!/^[a-z0-9.:[\]-]{1,253}$/i.test(host) || parseConfiguredNamespace(host) === undefined) return undefined
  return `${isEncrypted ? 'https' : 'http'}://${host.toLowerCase()}`
}

/** The script that points a client at the mirror; `undefined` if there is none for it. */
export function setupScript(client: string, url: string): string | undefined {
  const body = BODIES.get(client)
  if (body === undefined) return undefined
  // Nothing runs before the last line, so that a download that breaks off does nothing.
  return `#!/bin/sh
# Points ${client} on this machine at the mirror ${url}, and shows each difference before it writes a file.
# curl -fsS ${url}/setup/${client}.sh | sh -s -- --help
set -eu
mirror='${url}'
${COMMON}${body}
run "$@"
`
}

/** A page that lists the scripts. */
export function setupIndex(url: string): string {
  const lines = [...BODIES.keys()].map(client => `curl -fsS ${url}/setup/${client}.sh | sudo sh\n`)
  return `Each script shows what it changes, writes it, and undoes that with "| sudo sh -s -- --remove".\n\n${lines.join('')}`
}
