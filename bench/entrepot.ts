import { mkdir, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { freePort } from '../test/clients/rig/ports.ts'
import { LoopWatch } from './loop.ts'
import type { Room, Started } from './room.ts'

/** What `npm run build` makes, and `npm run bench` measures. */
export const MAIN = fileURLToPath(new URL('../dist/main.js', import.meta.url))

/** A way to run Entrepot that is measured. */
export interface Variant {
  readonly name: string
  readonly workers: number
  readonly flags: readonly string[]
}

/** The variants that are measured. Cases that need only one take the first, with one worker. */
export const VARIANTS: readonly [Variant, ...Variant[]] = [
  { name: 'Entrepot, 1 worker', workers: 1, flags: ['--workers', '1'] },
  { name: 'Entrepot, 2 workers', workers: 2, flags: ['--workers', '2'] },
]

export interface EntrepotOptions {
  readonly flags?: readonly string[]
  /** The upstream of the default namespace, as `host:port` on loopback over plain http. */
  readonly upstream: string
  /** Namespaces of that upstream; `docker.io`, the default one, by default. */
  readonly namespaces?: readonly string[]
  /** The sub-command with its own flags; by default a directory of the room. */
  readonly store?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** Names that clients may push to; none by default. */
  readonly hosted?: string
  /** Sections of the upstream file about who may do what; none by default. */
  readonly access?: { readonly auth?: object; readonly rules: readonly object[] }
  /** Address of the admin listener; none by default. */
  readonly admin?: string
}

/** Starts the output of `npm run build` with default settings. */
export async function startEntrepot(room: Room, name: string, options: EntrepotOptions): Promise<Started> {
  const directory = room.path(name)
  await mkdir(directory, { recursive: true })
  const file = room.path(name, 'upstreams.yaml')
  const upstreams = (options.namespaces ?? ['docker.io']).map(namespace => ({
    namespace,
    host: options.upstream,
    tls: false,
    allow_addresses: ['127.0.0.0/8'],
  }))
  const { hosted: names, access = { rules: [{ who: 'everyone', may: ['pull', 'push'] }] } } = options
  // JSON is YAML.
  await writeFile(
    file,
    JSON.stringify({ upstreams, hosted: names === undefined ? [] : [{ names }], ...access }),
  )
  const address = `127.0.0.1:${await freePort()}`
  const store = options.store ?? ['filesystem', '--root', room.path(name, 'root')]
  const flags = [
    '--listen',
    address,
    '--admin-listen',
    options.admin ?? 'off',
    '--upstream-config-file',
    file,
  ]
  const argv = [process.execPath, MAIN, ...store, ...flags, ...(options.flags ?? [])]
  const loop = new LoopWatch(room.path(name, 'loop'))
  const child = room.start(name, argv, { env: { ...options.env, ...loop.env } })
  // 401 where rules ask for a login.
  await child.ready(async () => [200, 401].includes((await fetch(`http://${address}/v2/`)).status))
  return { child, address, loop }
}
