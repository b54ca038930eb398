import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execPath } from 'node:process'
import type { S3Address } from '../../../src/storage/s3/connection.ts'
import { Child } from '../../clients/rig/child.ts'
import { freePort } from '../../clients/rig/ports.ts'

const MAIN = new URL('../../../src/main.ts', import.meta.url).pathname

/** The whole program in a process of its own. */
export interface RunningEntrepot extends AsyncDisposable {
  /** Such as `http://127.0.0.1:1234`. */
  readonly url: string
  readonly log: () => string
  /** The most memory that the process ever had, in bytes. */
  readonly peakBytes: () => Promise<number>
}

/** The command and the variables with which a daemon keeps what it has in a bucket. */
export function storeArguments(
  { bucket, endpoint = '', prefix, credentials }: S3Address,
  spoolDirectory: string,
): { readonly store: readonly string[]; readonly env: Record<string, string> } {
  return {
    store: ['s3', '--bucket', bucket, '--host', endpoint, '--prefix', prefix, '--spool-dir', spoolDirectory],
    env: {
      S3_ACCESS_KEY: credentials?.accessKeyId ?? '',
      S3_SECRET_KEY: credentials?.secretAccessKey ?? '',
    },
  }
}

/** Starts `entrepot s3` on a bucket, with one upstream over plain http as the default namespace. */
export async function startEntrepot(
  address: S3Address,
  upstreamHost: string,
  ...more: readonly string[]
): Promise<RunningEntrepot> {
  await using undo = new AsyncDisposableStack()
  const room = await mkdtemp(join(tmpdir(), 'entrepot-s3-flow-'))
  undo.defer(async () => rm(room, { recursive: true, force: true, maxRetries: 5 }))
  const upstreams = join(room, 'upstreams.yaml')
  await writeFile(
    upstreams,
    `- namespace: docker.io\n  host: ${upstreamHost}\n  tls: false\n  allow_addresses: [127.0.0.0/8]\n`,
  )
  const port = await freePort()
  const { store, env } = storeArguments(address, join(room, 'spool'))
  const flags = [
    '--listen',
    `127.0.0.1:${port}`,
    '--admin-listen',
    'off',
    '--upstream-config-file',
    upstreams,
  ]
  const child = undo.use(new Child('entrepot', [execPath, MAIN, ...store, ...flags, ...more], { env }))
  const url = `http://127.0.0.1:${port}`
  await child.ready(async () => (await fetch(`${url}/livez`)).ok)
  const owned = undo.move()
  return {
    url,
    log: () => child.output(),
    peakBytes: async () => {
      const status = await readFile(`/proc/${child.pid}/status`, 'latin1')
      return Number(/^VmHWM:\s+([0-9]+) kB$/m.exec(status)?.[1]) * 1024
    },
    [Symbol.asyncDispose]: async () => owned.disposeAsync(),
  }
}
