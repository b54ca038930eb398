import { fileURLToPath } from 'node:url'
import { freePort } from '../test/clients/rig/ports.ts'
import type { Room, Started } from './room.ts'

const WORKER = fileURLToPath(new URL('./relay-worker.ts', import.meta.url))

/** What a relay is told, as JSON in its first argument. */
export interface RelayOrder {
  readonly port: number
  /** Where each connection leads to, as `host:port`. */
  readonly target: string
  /** How much may come back in a second, over all connections together. */
  readonly bytesPerSecond: number
}

/** Starts a line of limited bandwidth to a server, in a process of its own. */
export async function startPacedRelay(room: Room, target: string, bytesPerSecond: number): Promise<Started> {
  const port = await freePort()
  const order: RelayOrder = { port, target, bytesPerSecond }
  const address = `127.0.0.1:${port}`
  const child = room.start('relay', [process.execPath, WORKER, JSON.stringify(order)])
  await child.ready(async () => (await fetch(`http://${address}/v2/`)).status === 200)
  return { child, address }
}
