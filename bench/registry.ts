import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { freePort } from '../test/clients/rig/ports.ts'
import type { Child, Room } from './room.ts'

/** A running docker-registry, and `host:port`. */
export interface StartedRegistry {
  readonly child: Child
  readonly address: string
}

/** A real docker-registry with a store of its own, as the mirror of another if one is given. */
export async function startRegistry(room: Room, name: string, mirrored?: string): Promise<StartedRegistry> {
  const address = `127.0.0.1:${await freePort()}`
  const file = room.path(`${name}.yml`)
  const configuration = {
    version: '0.1',
    log: { level: 'error' },
    storage: { filesystem: { rootdirectory: room.path(name) } },
    http: { addr: address, secret: 'bench' },
    ...(mirrored === undefined ? {} : { proxy: { remoteurl: `http://${mirrored}` } }),
  }
  // JSON is YAML.
  await writeFile(file, JSON.stringify(configuration))
  const child = room.start(name, ['docker-registry', 'serve', file], {
    env: { OTEL_TRACES_EXPORTER: 'none' },
  })
  await child.ready(async () => (await fetch(`http://${address}/v2/`)).status === 200)
  return { child, address }
}

/** What a registry has sent so far of one path, by its own access log. */
export interface Sent {
  readonly requests: number
  readonly bytes: number
}

/** Counts the answers with a body of a path in an access log of the combined format. */
export function sentOf(log: string, path: string): Sent {
  const lines = [...log.matchAll(/"GET (\S+) HTTP\/1\.[01]" 20[06] (\d+)/g)]
  const sent = lines.filter(([, asked = '']) => asked.split('?')[0] === path)
  return { requests: sent.length, bytes: sent.reduce((sum, [, , bytes]) => sum + Number(bytes), 0) }
}

/** The same of a running registry. */
export function sentBy(registry: StartedRegistry, path: string): Sent {
  return sentOf(readFileSync(registry.child.log, 'utf8'), path)
}
