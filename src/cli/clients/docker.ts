import { isDeepStrictEqual } from 'node:util'
import { DOCKER_HUB } from '../../oci/namespace.ts'
import { certsNotes, planCertsDirectory } from './certs-directory.ts'
import type { HostFiles, MirrorUrl, Plan, PlannedFile, Wish } from './client.ts'
import { planHostsFiles } from './hosts-toml.ts'

export const DAEMON_JSON = '/etc/docker/daemon.json'
export const DOCKER_CERTS = '/etc/docker/certs.d'

/**
 * Plans `registry-mirrors` for Docker Hub, which every Docker reads, and `hosts.toml` files for the other
 * registries, which Docker reads if it keeps images in containerd's store.
 */
export async function planDocker(wish: Wish, files: HostFiles): Promise<Plan> {
  // `registry-mirrors` cannot carry credentials. With them Docker Hub goes through `hosts.toml` too.
  const isWithHub =
    wish.login === undefined && (wish.registries === 'all' || wish.registries.includes(DOCKER_HUB))
  const others =
    wish.registries === 'all' || wish.login !== undefined
      ? wish.registries
      : wish.registries.filter(name => name !== DOCKER_HUB)
  const daemon = isWithHub ? [await planDaemonJson(wish, files)] : []
  const hosts = await planHostsFiles({ ...wish, registries: others }, files, DOCKER_CERTS)
  const notes = [...(isWithHub ? hubNotes(wish) : []), ...certsNotes(wish, DOCKER_CERTS)]
  if (wish.login !== undefined)
    notes.push(
      'Docker sends this login from version 29 on, with the containerd image store, and for Docker Hub too. The classic store ' +
        'sends a mirror no login but that of Docker Hub: there, use a client certificate or an anonymous mirror.',
    )
  if (hosts.length > 0)
    notes.push(
      'Registries other than Docker Hub come from the mirror only with the containerd image store (`docker info` says ' +
        '"driver-type: io.containerd.snapshotter.v1"); with the classic store Docker pulls them directly.',
    )
  const certs = await planCertsDirectory(wish, files, DOCKER_CERTS)
  return { files: [...daemon, ...hosts, ...certs], notes }
}

function hubNotes({ mirror }: Wish): string[] {
  const notes = ['`docker pull` uses the new daemon.json after `systemctl reload docker`.']
  if (mirror.scheme === 'http')
    notes.push(
      `insecure-registries is for \`docker build\`: before Docker 28, its BuildKit ignores the scheme of a mirror, tries https, and ` +
        `then pulls directly. The entry needs http://, although dockerd logs a warning about it, and a restart of Docker.`,
    )
  return notes
}

async function planDaemonJson({ mirror }: Wish, files: HostFiles): Promise<PlannedFile> {
  const path = DAEMON_JSON
  const before = await files.read(path)
  const isNew = before === undefined || before.trim() === ''
  const parsed = parseJson(isNew ? '{}' : before)
  const mirrors = listAt(parsed, 'registry-mirrors')
  const insecure = listAt(parsed, 'insecure-registries')
  if (parsed === undefined || mirrors === undefined || insecure === undefined) {
    const after = jsonText(merge({}, mirror, { mirrors: [], insecure: [] }), 2)
    const refusal = 'it is not a JSON object, or its registry-mirrors or insecure-registries are not a list'
    return { path, before, after, refusal }
  }
  const merged = merge(parsed, mirror, { mirrors, insecure })
  if (isDeepStrictEqual(merged, parsed)) return { path, before, after: before ?? '' }
  const indent = /^[{\s]*?\n([ \t]+)"/.exec(before ?? '')?.[1] ?? 2
  return { path, before, after: jsonText(merged, indent) }
}

interface Lists {
  readonly mirrors: readonly unknown[]
  readonly insecure: readonly unknown[]
}

/** Adds the missing entries. Our mirror goes first, or stays where it is. */
function merge(parsed: JsonObject, { url, scheme }: MirrorUrl, { mirrors, insecure }: Lists): JsonObject {
  // dockerd writes and compares mirrors with a slash at the end.
  const isThere = mirrors.some(given => typeof given === 'string' && given.replace(/\/$/, '') === url)
  const isInsecure = scheme === 'https' || insecure.includes(url)
  return {
    ...parsed,
    'registry-mirrors': isThere ? mirrors : [url, ...mirrors],
    ...(isInsecure ? {} : { 'insecure-registries': [...insecure, url] }),
  }
}

type JsonObject = Readonly<Record<string, unknown>>

/** A list of the object; empty if it is missing, `undefined` if it is something else. */
function listAt(object: JsonObject | undefined, key: string): readonly unknown[] | undefined {
  const value = object?.[key] ?? []
  return Array.isArray(value) ? value : undefined
}

function jsonText(value: object, indent: string | number): string {
  return `${JSON.stringify(value, undefined, indent)}\n`
}

function parseJson(text: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(text)
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
    return isObject ? (value as JsonObject) : undefined
  } catch {
    return undefined
  }
}
