import { formatBytes } from '../lib/bytes.ts'
import { formatDuration } from '../lib/duration.ts'
import type { Config, SizeConfig, SpaceConfig } from './config.ts'
import { formatListen } from './listen.ts'
import type { PeerHost } from './peers/peers-config.ts'
import type { ValueOrigin } from './problem.ts'
import { formatProxy, type ProxyConfig } from './proxy.ts'
import type { SettingsReader } from './reader.ts'
import type { Secret } from './secret.ts'
import type { Flag } from './settings.ts'
import type { StoreKind } from './store.ts'

/** A setting in force, formatted for display. */
export interface Setting {
  readonly name: string
  readonly value: string
  readonly origin: ValueOrigin
}

/** The default of `min_free`, which depends on the file system. */
const MIN_FREE = '5%, at least 2GiB, at most 10%'

type Shown = string | boolean | Secret | undefined

/** The settings in force, in the order of the documentation. Secrets print as `[redacted]`. */
export function effectiveSettings(
  config: Config,
  reader: SettingsReader,
  kind: StoreKind | undefined,
): readonly Setting[] {
  const { adminListen, store } = config
  const setting: MakeSetting = (name, value, ...flags) => {
    const origin = reader.find(...flags)?.origin ?? { kind: 'default' }
    return { name, value: value === undefined ? 'none' : String(value), origin }
  }
  const kindOrigin: ValueOrigin = kind === undefined ? { kind: 'default' } : { kind: 'command-line' }
  const settings = [
    setting('listen', formatListen(config.listen), 'listen', 'port'),
    ...tlsSettings(config, setting),
    setting('admin_listen', adminListen === undefined ? 'off' : formatListen(adminListen), 'admin-listen'),
    setting('admin_token_file', config.adminTokenFile, 'admin-token-file'),
    setting('default_namespace', config.defaultNamespace, 'default-namespace', 'default-upstream-namespace'),
    setting('namespaces', config.namespaces, 'namespaces'),
    setting('nat64_prefix', config.nat64Prefix, 'nat64-prefix'),
    setting('https_proxy', proxySetting(config.egress?.httpsProxy), 'https-proxy'),
    setting('http_proxy', proxySetting(config.egress?.httpProxy), 'http-proxy'),
    setting('proxy_bypass', config.egress?.proxyBypass.join(',') || undefined, 'proxy-bypass'),
    setting('trust_egress_proxy', config.egress?.trustsProxies ?? false, 'trust-egress-proxy'),
    ...peerSettings(config, setting),
    setting('check_cache_digest', config.checkCacheDigest, 'check-cache-digest'),
    setting('offline', config.isOffline, 'offline'),
    setting('single_writer', config.isSingleWriter ?? false, 'single-writer'),
    setting('pass_through', config.passesThrough ?? false, 'pass-through'),
    setting('prove_ranges', config.provesRanges, 'prove-ranges'),
    setting('scrub_interval', scrubInterval(config), 'scrub-interval'),
    setting('scrub_rate', formatBytes(config.scrub.bytesPerSecond), 'scrub-rate'),
    setting('drain_delay', formatDuration(config.drainDelayMs ?? 0), 'drain-delay'),
    setting('drain_timeout', formatDuration(config.drainMs), 'drain-timeout'),
    setting('workers', String(config.workers), 'workers'),
    setting('sendfile', config.usesSendfile ?? true, 'sendfile'),
    setting('setup_scripts', config.servesSetup ?? true, 'setup-scripts'),
    setting('traces', config.traces ?? false, 'traces'),
    setting('log_format', config.logFormat ?? 'auto', 'log-format'),
    setting('log_level', config.logLevel, 'log-level'),
    setting('audit_log', auditLog(config), 'audit-log'),
    setting(
      'client_requests',
      String(config.clientLimits?.requestsPerSecond ?? 'unlimited'),
      'client-requests',
    ),
    setting('client_downloads', String(config.clientLimits?.downloads ?? 'unlimited'), 'client-downloads'),
    setting('upstream_config_file', config.upstreamConfigFile, 'upstream-config-file'),
    { name: 'store', value: store.kind, origin: kindOrigin },
  ]
  return [...settings, ...storeSettings(config, setting)]
}

/** Builds a setting from its value and the flags that set it. */
type MakeSetting = (name: string, value: Shown, ...flags: readonly Flag[]) => Setting

function storeSettings(
  { store, space, isReadOnly = false }: Config,
  setting: MakeSetting,
): readonly Setting[] {
  if (store.kind === 'filesystem') {
    return [
      setting('root', store.root, 'root'),
      setting('max_size', sizeSetting(space?.maxSize), 'max-size'),
      setting('min_free', sizeSetting(space?.minFree) ?? MIN_FREE, 'min-free'),
      setting('dynamic_share', shareSetting(space), 'dynamic-share'),
      setting('max_blob', sizeSetting(space?.maxBlob), 'max-blob'),
      setting('read_only', isReadOnly, 'read-only'),
    ]
  }
  return [
    setting('host', store.endpoint, 'host'),
    setting('bucket', store.bucket, 'bucket'),
    setting('region', store.region, 'region'),
    setting('access_key', store.accessKey, 'access-key'),
    setting('secret_key', store.secretKey, 'secret-key'),
    setting('prefix', store.prefix, 'prefix'),
    setting('path_style', store.isPathStyle, 'path-style'),
    setting('spool_dir', store.spoolDirectory, 'spool-dir'),
    setting('s3_cache', formatBytes(store.copiesBytes ?? 0), 's3-cache'),
    setting('redirect', store.isRedirecting, 'redirect'),
    setting('redirect_host', store.redirectEndpoint, 'redirect-host'),
    setting('max_size', sizeSetting(space?.maxSize), 'max-size'),
    setting('dynamic_share', shareSetting(space), 'dynamic-share'),
    setting('max_blob', sizeSetting(space?.maxBlob), 'max-blob'),
    setting('evict_rate', String(space?.evictionsPerSecond ?? 500), 'evict-rate'),
  ]
}

/** Settings of TLS; with plain HTTP there are none to show. */
function tlsSettings({ tls }: Config, setting: MakeSetting): readonly Setting[] {
  if (tls === undefined) return []
  const { listen, certificate, clients } = tls
  const listens = listen.length === 0 ? undefined : listen.map(formatListen).join(', ')
  return [
    setting('listen_tls', listens, 'listen-tls'),
    ...(certificate.kind === 'files'
      ? [
          setting('tls_cert', certificate.certFile, 'tls-cert'),
          setting('tls_key', certificate.keyFile, 'tls-key'),
        ]
      : [
          setting('tls_self_signed', certificate.directory, 'tls-self-signed'),
          setting('tls_names', certificate.names.join(', ') || undefined, 'tls-names'),
        ]),
    setting('tls_client_ca', clients?.caFile, 'tls-client-ca'),
    ...(clients === undefined
      ? []
      : [setting('tls_client_auth', clients.isRequired ? 'required' : 'optional', 'tls-client-auth')]),
  ]
}

/** Settings of replicas; a mirror that works alone has none to show. */
function peerSettings({ peers }: Config, setting: MakeSetting): readonly Setting[] {
  if (peers === undefined) return []
  const { listen, members, secretFile, cluster } = peers
  const list = members.kind === 'list' ? members.addresses.map(hostText).join(', ') : undefined
  return [
    setting('peer_listen', formatListen(listen), 'peer-listen'),
    setting('peers', list, 'peers'),
    setting('peers_dns', members.kind === 'dns' ? hostText(members.name) : undefined, 'peers-dns'),
    setting('peer_secret_file', secretFile, 'peer-secret-file'),
    setting('peer_cluster', cluster, 'peer-cluster'),
  ]
}

function hostText(address: PeerHost): string {
  return formatListen({ kind: 'tcp', ...address })
}

function auditLog({ auditLog: to = 'log' }: Config): string {
  return typeof to === 'string' ? to : to.file
}

function scrubInterval({ scrub }: Config): string {
  return scrub.intervalMs === undefined ? 'off' : formatDuration(scrub.intervalMs)
}

function proxySetting(proxy: ProxyConfig | undefined): string | undefined {
  return proxy === undefined ? undefined : formatProxy(proxy)
}

function shareSetting(space: SpaceConfig | undefined): string {
  return `${Math.round((space?.dynamicShare ?? 0) * 10_000) / 100}%`
}

function sizeSetting(size: SizeConfig | undefined): string | undefined {
  if (size === undefined) return undefined
  return size.kind === 'bytes' ? formatBytes(size.bytes) : `${size.percent}%`
}
