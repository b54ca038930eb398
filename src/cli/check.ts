import type { UpstreamConfig, UpstreamCredentials } from '../config/config.ts'
import type { EntryKey } from '../config/file/entry.ts'
import type { ShownValue } from '../config/file/section.ts'
import type { LoadedUpstream } from '../config/file/upstreams.ts'
import type { LoadedConfig } from '../config/load.ts'
import { formatOrigin } from '../config/problem.ts'
import { formatProxy, type ProxyConfig, proxyOf } from '../config/proxy.ts'
import { formatDuration } from '../lib/duration.ts'
import { type Environment, EXIT, type ExitCode } from './environment.ts'

/** Prints the effective configuration with the origin of every value; secrets are redacted. */
export function check(environment: Environment, loaded: LoadedConfig): ExitCode {
  environment.stdout.write(aligned(settingLines(loaded)))
  for (const notice of loaded.notices) environment.stderr.write(`entrepot: note: ${notice}\n`)
  for (const risk of loaded.risks) environment.stderr.write(`entrepot: WARNING: ${risk}\n`)
  return EXIT.ok
}

/** Every value in force with its origin. Secrets are redacted. */
export function settingLines(loaded: LoadedConfig): readonly ShownValue[] {
  return [
    ...loaded.settings.map(({ name, value, origin }) => ({ key: name, value, origin })),
    { key: 'upstreams', value: loaded.upstreams.length === 0 ? '[]' : '', origin: undefined },
    ...loaded.upstreams.flatMap(upstream => upstreamLines(upstream, loaded)),
    ...loaded.sections,
  ]
}

function upstreamLines({ config, origins }: LoadedUpstream, loaded: LoadedConfig): ShownValue[] {
  const proxy = config.proxy ?? proxyOf(config, loaded.config.egress)
  const variable = config.tls ? 'https_proxy' : 'http_proxy'
  const ofProxy = loaded.settings.find(({ name }) => name === variable)?.origin
  const values = Object.entries({ ...upstreamValues(config), proxy: proxyValue(proxy) }) as [
    EntryKey,
    string | undefined,
  ][]
  const given = values.filter(([, value]) => value !== undefined)
  return given.map(([key, value = ''], index) => ({
    key: `${index === 0 ? '  - ' : '    '}${key}`,
    value,
    origin: origins.get(key) ?? (key === 'proxy' ? ofProxy : undefined) ?? { kind: 'default' },
  }))
}

function upstreamValues(config: UpstreamConfig): Partial<Record<EntryKey, string | undefined>> {
  const { allowAddresses, realms } = config
  return {
    namespace: config.namespace,
    host: config.host,
    tls: String(config.tls),
    accept_invalid_certs: String(config.acceptInvalidCerts),
    ca_file: config.caFile,
    client_cert_file: config.clientCertFile,
    client_key_file: config.clientKeyFile,
    user_agent: config.userAgent,
    ...credentialValues(config.credentials),
    manifest_invalidation_time: formatDuration(config.manifestInvalidationMs),
    blob_invalidation_time:
      config.blobInvalidationMs === undefined ? 'never' : formatDuration(config.blobInvalidationMs),
    stale_if_error: formatDuration(config.staleIfErrorMs),
    revalidation_wait: formatDuration(config.revalidationWaitMs),
    deleted_tags: config.deletedTags,
    silence_max: formatDuration(config.silenceMaxMs),
    allow_addresses: allowAddresses.length === 0 ? undefined : `[${allowAddresses.join(', ')}]`,
    realms: realms.length === 0 ? undefined : `[${realms.join(', ')}]`,
    retry_after_max: formatDuration(config.retryAfterMaxMs),
    allow_http_redirects: String(config.allowHttpRedirects),
  }
}

function proxyValue(proxy: ProxyConfig | 'none' | undefined): string | undefined {
  return typeof proxy === 'object' ? formatProxy(proxy) : proxy
}

function credentialValues(
  credentials: UpstreamCredentials | undefined,
): Partial<Record<EntryKey, string | undefined>> {
  switch (credentials?.kind) {
    case undefined:
      return {}
    case 'password':
      return { username: credentials.username, password: String(credentials.password) }
    case 'password-file':
      return { username: credentials.username, password_file: credentials.passwordFile }
    case 'docker-config':
      return { docker_config: credentials.file }
    default:
      return credentials satisfies never
  }
}

const VALUE_WIDTH_MAX = 40

/** Aligned columns of keys and values, with the origins as comments. */
function aligned(lines: readonly ShownValue[]): string {
  const keyWidth = Math.max(...lines.map(line => line.key.length)) + 2
  const valueWidth = Math.min(VALUE_WIDTH_MAX, Math.max(...lines.map(line => line.value.length)))
  return lines
    .map(({ key, value, origin }) => {
      const start = `${key}:`.padEnd(keyWidth)
      const end = origin === undefined ? value : `${value.padEnd(valueWidth)}  # ${formatOrigin(origin)}`
      return `${start}${end}`.trimEnd()
    })
    .map(line => `${line}\n`)
    .join('')
}
