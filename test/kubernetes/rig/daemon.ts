import { mkdtemp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Child } from '../../clients/rig/child.ts'
import { freePort } from '../../clients/rig/ports.ts'
import { ROOT } from '../../packaging/rig/tools.ts'

/** The arguments that run this program. */
export const ENTREPOT: readonly string[] = [process.execPath, join(ROOT, 'bin/entrepot.cjs')]

/** A daemon of this program, in a process of its own. */
export interface RunningDaemon extends AsyncDisposable {
  /** `host:port` of its listener for clients. */
  readonly address: string
  /** URL of its admin listener, which needs no token. */
  readonly admin: string
  readonly output: () => string
}

/** Where a daemon listens, and the sections of its upstream file. */
export interface DaemonWish {
  /** By default a free port of 127.0.0.1. */
  readonly address?: string
  readonly sections?: Readonly<Record<string, unknown>>
}

/** Starts a daemon with its cache in a directory below `room`. */
export async function startDaemonProcess(room: string, wish: DaemonWish = {}): Promise<RunningDaemon> {
  const root = await mkdtemp(join(room, 'daemon-'))
  const file = join(root, 'upstreams.yaml')
  await writeFile(file, JSON.stringify({ upstreams: [], ...wish.sections }))
  const address = wish.address ?? `127.0.0.1:${await freePort()}`
  const admin = `127.0.0.1:${await freePort()}`
  const flags = ['--listen', address, '--admin-listen', admin, '--upstream-config-file', file]
  const child = new Child('entrepot', [...ENTREPOT, ...flags, 'filesystem', '--root', join(root, 'cache')])
  await child.ready(async () => (await fetch(`http://${address}/readyz`)).ok, 60_000)
  return {
    address,
    admin: `http://${admin}`,
    output: () => child.output(),
    [Symbol.asyncDispose]: async () => await child[Symbol.asyncDispose](),
  }
}
