import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import type { Config } from '../../src/config/config.ts'
import type { PeersConfig } from '../../src/config/peers/peers-config.ts'
import { Secret } from '../../src/config/secret.ts'
import { type MirrorOptions, startMirror, type TestMirror } from './mirror.ts'
import { until } from './waiting.ts'

const HOST = '127.0.0.1'
export const PEER_SECRET = 'a secret of the replicas'

/** Mirrors that know each other. */
export interface Replicas extends AsyncDisposable {
  readonly mirrors: readonly TestMirror[]
  /** Ports of their listeners for each other. */
  readonly ports: readonly number[]
}

/** Ports that are free now. */
export async function freePorts(count: number): Promise<readonly number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer()
      server.listen(0, HOST)
      await once(server, 'listening')
      return server
    }),
  )
  const ports = servers.map(server => (server.address() as AddressInfo).port)
  await Promise.all(
    servers.map(async server => {
      const closed = once(server, 'close')
      server.close()
      await closed
    }),
  )
  return ports
}

/** The settings of one replica of those at the ports. */
export function peersConfig(
  port: number,
  ports: readonly number[],
  overrides: Partial<PeersConfig> = {},
): Pick<Config, 'peers'> {
  return {
    peers: {
      listen: { kind: 'tcp', host: HOST, port },
      members: { kind: 'list', addresses: ports.map(other => ({ host: HOST, port: other })) },
      secret: new Secret(PEER_SECRET),
      secretFile: '/nowhere',
      cluster: 'test',
      ...overrides,
    },
  }
}

/** Starts mirrors that know each other, and resolves once they do. */
export async function startReplicas(
  count: number,
  options: (index: number) => MirrorOptions,
  { others = [] }: { readonly others?: readonly number[] } = {},
): Promise<Replicas> {
  await using undo = new AsyncDisposableStack()
  const own = await freePorts(count)
  const ports = [...own, ...others]
  const mirrors: TestMirror[] = []
  for (const [index, port] of own.entries()) {
    const given = options(index)
    const config = { ...peersConfig(port, ports), ...given.config }
    mirrors.push(undo.use(await startMirror({ ...given, config })))
  }
  await Promise.all(mirrors.map(async mirror => await met(mirror, count - 1)))
  const owned = undo.move()
  return { mirrors, ports: own, [Symbol.asyncDispose]: async () => await owned.disposeAsync() }
}

/** Resolves once a mirror knows itself and this many others. */
export async function met(mirror: TestMirror, others: number): Promise<void> {
  await until(async () => {
    const text = (await mirror.admin('GET', '/metrics')).body.toString()
    return (
      text.includes(`entrepot_peer_members{state="alive"} ${others}\n`) &&
      text.includes('entrepot_peer_members{state="self"} 1\n')
    )
  }, `${others} other replicas are there`)
}

/** The value of a metric with these labels, as the exposition has it; 0 if there is none. */
export async function metricOf(mirror: TestMirror, series: string): Promise<number> {
  const text = (await mirror.admin('GET', '/metrics')).body.toString()
  const line = text.split('\n').find(found => found.startsWith(`${series} `))
  return Number(line?.slice(series.length + 1) ?? 0)
}
