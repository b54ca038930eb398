import { createHash } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { get, type IncomingMessage } from 'node:http'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ACCEPT, type Item } from './content.ts'
import { allowedCores, pin } from './cpu.ts'
import { startEntrepot, VARIANTS, type Variant } from './entrepot.ts'
import { startNginxCache, startNginxStatic } from './nginx.ts'
import { findProgram } from './programs.ts'
import { startRegistry } from './registry.ts'
import type { Room, Started } from './room.ts'

/** Names of the other servers in results and ratios. */
export const NGINX_STATIC = 'nginx static'
export const NGINX_CACHE = 'nginx proxy_cache'
export const REGISTRY = 'docker-registry proxy'
export const DISTRIBUTION = 'Distribution 3.1 proxy'

export interface Server extends Started {
  readonly name: string
  /** Variant of Entrepot; undefined for other servers. */
  readonly variant?: Variant
  /** From the start of its process to its first answer, in milliseconds. */
  readonly readyMs: number
}

/** The upstream of the servers. */
export interface Surroundings {
  /** Name for the directories of these servers in the room. */
  readonly group: string
  readonly upstream: string
  /** Directory of the static files of nginx. */
  readonly files: string
}

/** Starts all variants of Entrepot and the servers it is compared with. */
export async function startServers(
  room: Room,
  { group, upstream, files }: Surroundings,
): Promise<readonly Server[]> {
  const servers: Server[] = []
  for (const variant of VARIANTS) {
    const { name, workers, flags } = variant
    const start = async (): Promise<Started> =>
      await startEntrepot(room, `${group}-entrepot-${workers}`, { upstream, flags })
    servers.push({ variant, ...(await timed(name, start)) })
  }
  await mkdir(files, { recursive: true })
  return [
    ...servers,
    await timed(NGINX_STATIC, async () => await startNginxStatic(room, `${group}-nginx-static`, files)),
    await timed(NGINX_CACHE, async () => await startNginxCache(room, `${group}-nginx-cache`, upstream)),
    await timed(REGISTRY, async () => await startRegistry(room, `${group}-registry`, { mirrored: upstream })),
    ...(await startDistribution(room, `${group}-distribution`, upstream)),
  ]
}

/** The release of Distribution that its users run, if it is installed; Debian's is older. */
async function startDistribution(room: Room, name: string, mirrored: string): Promise<readonly Server[]> {
  const program = findDistribution()
  if (program === undefined) return []
  return [await timed(DISTRIBUTION, async () => await startRegistry(room, name, { mirrored, program }))]
}

/** The program of that release. */
export function findDistribution(): string | undefined {
  return findProgram('registry', [process.env['PATH'] ?? '', join(homedir(), 'go/bin')])
}

async function timed(name: string, start: () => Promise<Started>): Promise<Server> {
  const startedAtMs = performance.now()
  const started = await start()
  return { name, ...started, readyMs: performance.now() - startedAtMs }
}

/**
 * Runs a measurement with the server bound to one core, and passes the core of the client. A server that is
 * meant to use all cores is not bound.
 */
export async function onItsCore<T>(
  { variant, child }: Server,
  measure: (clientCore: number | undefined) => Promise<T>,
): Promise<T> {
  if (variant !== undefined && variant.workers > 1) return await measure(undefined)
  const cores = allowedCores()
  const [serverCore, clientCore] = cores
  if (serverCore === undefined || clientCore === undefined) throw new Error('the bench needs two cores')
  pin(child.pid, [serverCore])
  try {
    return await measure(clientCore)
  } finally {
    pin(child.pid, cores)
  }
}

/** Has a server fetch some content, and compares its answers byte by byte with what was pushed. */
export async function warm(server: Server, items: readonly Item[]): Promise<void> {
  for (const item of items) {
    await check(server, item)
    if (server.variant !== undefined) await untilHit(server, item)
  }
}

/** Throws unless a server answers with exactly the bytes of an item. */
export async function check({ name, address }: Pick<Server, 'name' | 'address'>, item: Item): Promise<void> {
  const hash = createHash('sha256')
  const answer = await ask(address, item.path)
  for await (const piece of answer) hash.update(piece as Buffer)
  const digest = `sha256:${hash.digest('hex')}`
  if (answer.statusCode !== 200 || !answer.complete || digest !== item.digest) {
    throw new Error(`${name} answered ${item.path} with ${answer.statusCode} and ${digest}`)
  }
}

/** Waits until Entrepot has stored the content, which happens a moment after the last byte has gone out. */
export async function untilHit(
  { name, address }: Pick<Server, 'name' | 'address'>,
  item: Item,
): Promise<void> {
  for (let tries = 0; tries < 500; tries += 1) {
    const answer = await ask(address, item.path)
    answer.destroy()
    if (String(answer.headers['cache-status']).includes('; hit')) return
    await sleep(20)
  }
  throw new Error(`${name} does not come to have ${item.path}`)
}

async function ask(address: string, path: string): Promise<IncomingMessage> {
  return await new Promise((resolve, reject) => {
    get(`http://${address}${path}`, { agent: false, headers: ACCEPT }, resolve).on('error', reject)
  })
}
