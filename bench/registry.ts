import { writeFile } from 'node:fs/promises'
import type { S3Address } from '../src/storage/s3/connection.ts'
import { freePort } from '../test/clients/rig/ports.ts'
import type { Room, Started } from './room.ts'

export interface RegistryOptions {
  /** The registry that it mirrors, as `host:port`. */
  readonly mirrored?: string
  /** Another build of Distribution than Debian's. */
  readonly program?: string
  /** A bucket for its store instead of a directory. */
  readonly bucket?: S3Address | undefined
}

/** Starts a real registry of the Distribution project with its own store. */
export async function startRegistry(
  room: Room,
  name: string,
  { mirrored, bucket, program = 'docker-registry' }: RegistryOptions = {},
): Promise<Started> {
  const address = `127.0.0.1:${await freePort()}`
  const file = room.path(`${name}.yml`)
  const configuration = {
    version: '0.1',
    log: { level: 'error' },
    storage: bucket === undefined ? { filesystem: { rootdirectory: room.path(name) } } : s3Of(bucket),
    http: { addr: address, secret: 'bench' },
    ...(mirrored === undefined ? {} : { proxy: { remoteurl: `http://${mirrored}` } }),
  }
  // JSON is YAML.
  await writeFile(file, JSON.stringify(configuration))
  const child = room.start(name, [program, 'serve', file], {
    env: { OTEL_TRACES_EXPORTER: 'none' },
  })
  await child.ready(async () => (await fetch(`http://${address}/v2/`)).status === 200)
  return { child, address }
}

function s3Of({ bucket, region, endpoint = '', credentials }: S3Address): object {
  const { accessKeyId = '', secretAccessKey = '' } = credentials ?? {}
  const keys = { accesskey: accessKeyId, secretkey: secretAccessKey }
  return {
    s3: {
      ...keys,
      bucket,
      region,
      regionendpoint: endpoint,
      secure: false,
      v4auth: true,
      rootdirectory: '/registry',
    },
  }
}

/** What a registry has sent so far, according to its access log. */
export interface Sent {
  readonly requests: number
  readonly bytes: number
}

/** Counts the answers with a body for some paths, in an access log of the combined format. */
export function sentOf(log: string, paths: readonly string[]): Sent {
  const lines = [...log.matchAll(/"GET (\S+) HTTP\/1\.[01]" 20[06] (\d+)/g)]
  const sent = lines.filter(([, asked = '']) => paths.includes(asked.split('?')[0] ?? ''))
  return { requests: sent.length, bytes: sent.reduce((sum, [, , bytes]) => sum + Number(bytes), 0) }
}
