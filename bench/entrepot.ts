import { mkdir, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { freePort } from '../test/clients/rig/ports.ts'
import type { Room, Started } from './room.ts'

const MAIN = fileURLToPath(new URL('../dist/main.js', import.meta.url))

/** One way to run Entrepot that is measured beside the others. */
export interface Variant {
  readonly name: string
  readonly workers: number
  readonly flags: readonly string[]
}

/** The ways that are measured, that of one worker first: where one way is enough it is that. */
export const VARIANTS: readonly [Variant, ...Variant[]] = [
  { name: 'Entrepot, 1 worker', workers: 1, flags: ['--workers', '1'] },
  { name: 'Entrepot, 2 workers', workers: 2, flags: ['--workers', '2'] },
]

/** How to start an Entrepot of the bench. */
export interface EntrepotOptions {
  readonly flags?: readonly string[]
  /** The upstream of the default namespace, as `host:port` on loopback over plain http. */
  readonly upstream: string
  /** The sub-command with its own flags; a directory of the room unless told. */
  readonly store?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
}

/** Starts what `npm run build` has made, with the settings that it has by itself. */
export async function startEntrepot(room: Room, name: string, options: EntrepotOptions): Promise<Started> {
  const directory = room.path(name)
  await mkdir(directory, { recursive: true })
  const file = room.path(name, 'upstreams.yaml')
  const entry = { namespace: 'docker.io', host: options.upstream, tls: false }
  await writeFile(file, JSON.stringify([{ ...entry, allow_addresses: ['127.0.0.0/8'] }]))
  const address = `127.0.0.1:${await freePort()}`
  const store = options.store ?? ['filesystem', '--root', room.path(name, 'root')]
  const flags = ['--listen', address, '--admin-listen', 'off', '--upstream-config-file', file]
  const argv = [process.execPath, MAIN, ...store, ...flags, ...(options.flags ?? [])]
  const child = room.start(name, argv, { env: options.env ?? {} })
  await child.ready(async () => (await fetch(`http://${address}/v2/`)).status === 200)
  return { child, address }
}
