import { statSync } from 'node:fs'
import { parseDuration } from '../lib/duration.ts'
import type { Config, UpstreamConfig } from './config.ts'
import { formatListen, openAddress } from './listen.ts'
import { formatOrigin } from './problem.ts'
import type { SettingsReader } from './reader.ts'
import type { Flag } from './settings.ts'

const WITHOUT_EFFECT = [
  'blob-chunk-read-timeout',
  'blob-chunk-write-timeout',
  'manifest-invalidation-time',
  'blob-invalidation-time',
] as const satisfies readonly Flag[]

/** Notes on options of oci-registry without effect, and on secrets on the command line. */
export function compatibilityNotices(reader: SettingsReader): string[] {
  const notices: string[] = []
  for (const flag of WITHOUT_EFFECT) {
    const given = reader.find(flag)
    if (given === undefined) continue
    reader.parse(given, parseDuration)
    const isPerUpstream = flag.endsWith('invalidation-time')
    const instead = isPerUpstream ? `; set ${flag.replaceAll('-', '_')} in the upstream file` : ''
    notices.push(`${formatOrigin(given.origin)} is accepted and has no effect${instead}`)
  }
  for (const flag of ['upstream-credentials', 'secret-key', 'https-proxy', 'http-proxy'] as const) {
    const given = reader.find(flag)
    const isSecret = !flag.endsWith('proxy') || given?.text.includes('@') === true
    if (given?.origin.kind !== 'flag' || !isSecret) continue
    notices.push(`--${flag} on the command line can be read by every user of this machine`)
  }
  return notices
}

/** Warnings about risks of a valid configuration, each with the setting that avoids it. */
export function riskNotices(config: Config): string[] {
  const { namespaces, upstreams } = config
  const open = openAddress(config)
  const found: string[] = []
  const entrusted = upstreams.filter(({ credentials }) => credentials !== undefined)
  if (entrusted.length > 0 && open !== undefined) {
    const names = entrusted.map(({ namespace }) => namespace).join(', ')
    found.push(
      `OPEN MIRROR WITH CREDENTIALS: clients do not log in, so anyone who can connect to ${formatListen(open)} can pull whatever ` +
        `the configured credentials can pull, private repositories included (${names}); to tighten: set --listen to 127.0.0.1 or a unix ` +
        'socket behind a proxy that authenticates, ask for client certificates (--tls-client-auth required), let a firewall admit your clients only, or use credentials that can read ' +
        'public repositories only',
    )
  }
  if (namespaces === 'any' && open !== undefined) {
    found.push(
      `anyone who can connect to ${formatListen(open)} can make this machine connect to any address that it can reach, ` +
        'including internal ones; to tighten: set --namespaces to public or configured',
    )
  }
  found.push(...proxyRisks(config))
  if (namespaces === 'configured' && upstreams.length === 0) {
    found.push('--namespaces configured without any configured upstream mirrors nothing')
  }
  return [...found, ...exposedSecrets(config)]
}

function proxyRisks(config: Config): string[] {
  const { egress, namespaces } = config
  const open = openAddress(config)
  if (egress?.httpsProxy === undefined || namespaces !== 'public') return []
  if (!egress.trustsProxies)
    return [
      'registries that are not configured are refused, because a proxy (HTTPS_PROXY) hides at which addresses they are; ' +
        'to allow them: --trust-egress-proxy, if the proxy refuses internal addresses itself; to hide this: --namespaces configured',
    ]
  if (open === undefined) return []
  return [
    `anyone who can connect to ${formatListen(open)} can make the proxy (HTTPS_PROXY) connect to any address that it permits, ` +
      'internal ones included; to tighten: let the proxy refuse them, or set --namespaces to configured',
  ]
}

const OTHERS_READ = 0o004

/** Warnings about secrets that others can read on the way to a registry, or on this machine. */
function exposedSecrets(config: Config): readonly string[] {
  return [...config.upstreams.flatMap(exposedOnTheWay), ...secretFiles(config).flatMap(readableByAll)]
}

function exposedOnTheWay({
  namespace,
  host,
  tls,
  acceptInvalidCerts,
  credentials,
}: UpstreamConfig): string[] {
  if (credentials === undefined) return []
  if (!tls && !isThisMachine(host))
    return [
      `the password for ${namespace} goes to ${host} over plain http, where others can read it; set tls: true`,
    ]
  if (tls && acceptInvalidCerts)
    return [
      `the password for ${namespace} is sent to any server that answers as ${host}, because accept_invalid_certs is true; ` +
        'set ca_file to the CA of its certificate instead',
    ]
  return []
}

function isThisMachine(host: string): boolean {
  return /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?$/.test(host)
}

interface SecretFile {
  readonly path: string
  readonly holds: string
}

function secretFiles(config: Config): readonly SecretFile[] {
  const { adminTokenFile, tls, upstreamConfigFile, upstreamCredentials, upstreams } = config
  const files: SecretFile[] = []
  const add = (path: string | undefined, holds: string): void => {
    if (path !== undefined && !files.some(file => file.path === path)) files.push({ path, holds })
  }
  add(adminTokenFile, 'the token of the admin listener')
  add(config.peers?.secretFile, 'the secret of the replicas')
  if (tls?.certificate.kind === 'files') add(tls.certificate.keyFile, 'the key of the TLS certificate')
  for (const { namespace, credentials, clientKeyFile } of upstreams) {
    const isInFile = credentials?.kind === 'password' && upstreamCredentials?.has(namespace) !== true
    if (isInFile) add(upstreamConfigFile, 'passwords')
    if (credentials?.kind === 'password-file') add(credentials.passwordFile, `the password for ${namespace}`)
    if (credentials?.kind === 'docker-config') add(credentials.file, `the credentials for ${namespace}`)
    add(clientKeyFile, `the client key for ${namespace}`)
  }
  return files
}

/** Ignores files without access: their readers report them. */
function readableByAll({ path, holds }: SecretFile): string[] {
  try {
    const { mode } = statSync(path)
    if ((mode & OTHERS_READ) === 0) return []
  } catch {
    return []
  }
  return [`${path} holds ${holds}, and every user of this machine can read it; remove that right (chmod o-r)`]
}
