import { isAbsolute, resolve } from 'node:path'
import type { Config, ListenAddress } from './config.ts'
import { splitHostAndPort } from './host.ts'

/** Size of `sun_path` on Linux, less the closing NUL. */
const UNIX_PATH_BYTES_MAX = 107

/** Parses `host:port`, `[v6]:port` or `unix:/path`, where a relative path starts at `cwd`. */
export function parseListen(text: string, cwd: string): ListenAddress | undefined {
  if (text.startsWith('unix:')) return parseUnix(text.slice('unix:'.length), cwd)
  const split = splitHostAndPort(text)
  if (split?.port === undefined) return undefined
  const host = split.host.startsWith('[') ? split.host.slice(1, -1) : split.host
  return { kind: 'tcp', host, port: split.port }
}

/** The text that {@link parseListen} reads as this address. */
export function formatListen(address: ListenAddress): string {
  if (address.kind === 'unix') return `unix:${address.path}`
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`
}

/** One address at which clients are served. */
export interface ClientListener {
  readonly address: ListenAddress
  readonly isTls: boolean
}

/** The addresses at which clients are served, that of `--listen` first. */
export function clientListeners({ listen, tls }: Pick<Config, 'listen' | 'tls'>): readonly ClientListener[] {
  const further = tls?.listen ?? []
  return [
    { address: listen, isTls: tls !== undefined && further.length === 0 },
    ...further.map(address => ({ address, isTls: true })),
  ]
}

/** An address at which other machines are served without a client certificate, if there is one. */
export function openAddress(config: Pick<Config, 'listen' | 'tls'>): ListenAddress | undefined {
  const isGuarded = config.tls?.clients?.isRequired === true
  return clientListeners(config).find(({ address, isTls }) => !isLocal(address) && !(isTls && isGuarded))
    ?.address
}

/** True if only programs on this machine can connect. */
export function isLocal(address: ListenAddress): boolean {
  return address.kind === 'unix' || /^(?:127\.|localhost$|::1$)/.test(address.host)
}

function parseUnix(path: string, cwd: string): ListenAddress | undefined {
  if (path === '' || path.includes('\0')) return undefined
  const absolute = isAbsolute(path) ? path : resolve(cwd, path)
  return Buffer.byteLength(absolute) > UNIX_PATH_BYTES_MAX ? undefined : { kind: 'unix', path: absolute }
}
