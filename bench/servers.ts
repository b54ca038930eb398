import { createHash } from 'node:crypto'
import { get, type IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { ACCEPT, type Item } from './content.ts'
import { pin } from './cpu.ts'
import { startEntrepot, VARIANTS } from './entrepot.ts'
import { startNginxCache, startNginxStatic } from './nginx.ts'
import { startRegistry } from './registry.ts'
import type { Room } from './room.ts'

/** The server's core and the client's, as `taskset` lists them, while one core is enough for the server. */
const SERVER_CORE = '0'
const CLIENT_CORE = '1'
const ALL_CORES = '0-1'

/** The names that results and ratios know the others by. */
export const NGINX_STATIC = 'nginx static'
export const NGINX_CACHE = 'nginx proxy_cache'
export const REGISTRY = 'docker-registry proxy'

/** A server that is measured. */
export interface Server {
  readonly name: string
  /** `host:port`. */
  readonly address: string
  /** The root of its process tree. */
  readonly pid: number
  readonly isPinned: boolean
}

/** Entrepot in all its variants, and what it is compared with, all before one origin. */
export async function startServers(room: Room, origin: string, files: string): Promise<readonly Server[]> {
  const servers: Server[] = []
  for (const [index, { name, flags, isPinned }] of VARIANTS.entries()) {
    const { child, address } = await startEntrepot(room, `entrepot-${index}`, { upstream: origin, flags })
    servers.push({ name, address, pid: child.pid, isPinned })
  }
  const others = [
    [NGINX_STATIC, await startNginxStatic(room, files)],
    [NGINX_CACHE, await startNginxCache(room, origin)],
    [REGISTRY, await startRegistry(room, 'registry-proxy', origin)],
  ] as const
  for (const [name, { child, address }] of others)
    servers.push({ name, address, pid: child.pid, isPinned: true })
  return servers
}

/** Runs a measurement with the server on one core, and hands it the core of the client; unless the server is meant to use all. */
export async function onItsCore<T>(
  server: Server,
  measure: (clientCore: string | undefined) => Promise<T>,
): Promise<T> {
  if (!server.isPinned) return await measure(undefined)
  pin(server.pid, SERVER_CORE)
  try {
    return await measure(CLIENT_CORE)
  } finally {
    pin(server.pid, ALL_CORES)
  }
}

/** Lets a server fetch some content, and compares what it says, byte by byte, with what was pushed. */
export async function warm(server: Server, items: readonly Item[]): Promise<void> {
  for (const item of items) {
    await check(server, item)
    if (server.name.startsWith('Entrepot')) await untilHit(server, item)
  }
}

/** Throws unless a server answers with the very bytes of an item. */
export async function check({ name, address }: Pick<Server, 'name' | 'address'>, item: Item): Promise<void> {
  const hash = createHash('sha256')
  const answer = await ask(address, item.path)
  for await (const piece of answer) hash.update(piece as Buffer)
  const digest = `sha256:${hash.digest('hex')}`
  if (answer.statusCode !== 200 || !answer.complete || digest !== item.digest) {
    throw new Error(`${name} answered ${item.path} with ${answer.statusCode} and ${digest}`)
  }
}

/** What is warm is what Entrepot has stored: a moment after the last byte has gone out. */
async function untilHit({ name, address }: Server, item: Item): Promise<void> {
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
