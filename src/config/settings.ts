import { CLIENT_SETTINGS } from './client-settings.ts'
import { COMPATIBILITY } from './compatibility.ts'
import { NETWORK_SETTINGS } from './network-settings.ts'
import { PEER_SETTINGS } from './peers/peer-settings.ts'
import { S3_SETTINGS } from './s3-settings.ts'
import { TLS_SETTINGS } from './tls/tls-settings.ts'

/** A setting on the command line and in the environment, with its text in the help. */
export interface SettingSource {
  /** Environment variable; a flag on the command line wins over it. */
  readonly environment: string
  /** A `list` may be given several times, or with commas. */
  readonly type: 'text' | 'boolean' | 'secret' | 'list'
  /** Sub-command of the flag; `compatibility` flags are accepted because oci-registry has them. */
  readonly group: 'general' | 'filesystem' | 's3' | 'compatibility'
  /** Default as the help shows it; `undefined` if there is none. */
  readonly default: string | undefined
  readonly description: string
  /** The kind of value, for the sentence "is not …". */
  readonly noun: string
  /** A correct value, or how to find one. */
  readonly hint: string
}

/** Every setting by the name of its flag. */
export const SETTINGS = {
  listen: {
    environment: 'LISTEN',
    type: 'text',
    group: 'general',
    default: '0.0.0.0:8080',
    description: 'Address for clients: host:port or unix:/path',
    noun: 'an address to listen on',
    hint: 'such as 0.0.0.0:8080, [::]:8080 or unix:/run/entrepot.sock',
  },
  ...TLS_SETTINGS,
  ...CLIENT_SETTINGS,
  'admin-listen': {
    environment: 'ADMIN_LISTEN',
    type: 'text',
    group: 'general',
    default: '127.0.0.1:8081',
    description: 'Address for metrics and administration: host:port, unix:/path or off',
    noun: 'an address to listen on',
    hint: 'such as 127.0.0.1:8081, unix:/run/entrepot-admin.sock or off',
  },
  'admin-token-file': {
    environment: 'ADMIN_TOKEN_FILE',
    type: 'text',
    group: 'general',
    default: undefined,
    description: 'File that holds the admin token; required unless --admin-listen is local',
    noun: 'a file with a token of at least 16 characters',
    hint: 'the path of a file that holds one line, such as the output of openssl rand -hex 32',
  },
  'default-namespace': {
    environment: 'DEFAULT_NAMESPACE',
    type: 'text',
    group: 'general',
    default: 'docker.io',
    description: 'Registry of requests that do not name one',
    noun: 'a namespace',
    hint: 'a registry as clients name it, such as docker.io',
  },
  namespaces: {
    environment: 'NAMESPACES',
    type: 'text',
    group: 'general',
    default: 'public',
    description: 'Registries to mirror besides the configured ones: public, configured (no others) or any',
    noun: 'a policy',
    hint: 'public, configured or any',
  },
  ...NETWORK_SETTINGS,
  ...PEER_SETTINGS,
  'upstream-config-file': {
    environment: 'UPSTREAM_CONFIG_FILE',
    type: 'text',
    group: 'general',
    default: undefined,
    description: 'YAML list of upstream registries',
    noun: 'a path',
    hint: 'the path of a file',
  },
  'check-cache-digest': {
    environment: 'CHECK_CACHE_DIGEST',
    type: 'boolean',
    group: 'general',
    default: 'false',
    description: 'Verify stored objects on every read, not only on the first after the start',
    noun: 'true or false',
    hint: 'write true or false',
  },
  offline: {
    environment: 'OFFLINE',
    type: 'boolean',
    group: 'general',
    default: 'false',
    description: 'Serve cached content of any age, and connect to no registry',
    noun: 'true or false',
    hint: 'write true or false',
  },
  'single-writer': {
    environment: 'SINGLE_WRITER',
    type: 'boolean',
    group: 'general',
    default: 'false',
    description:
      'No other process ever writes to the store: allows immutable tags where conditional writes are not atomic',
    noun: 'true or false',
    hint: 'write true or false',
  },
  'pass-through': {
    environment: 'PASS_THROUGH',
    type: 'boolean',
    group: 'general',
    default: 'false',
    description: 'Start even if the data directory cannot be written, and then cache nothing',
    noun: 'true or false',
    hint: 'write true or false',
  },
  'prove-ranges': {
    environment: 'PROVE_RANGES',
    type: 'boolean',
    group: 'general',
    default: 'false',
    description: 'Answer range requests for a blob under download only after the whole blob is verified',
    noun: 'true or false',
    hint: 'write true or false',
  },
  'scrub-interval': {
    environment: 'SCRUB_INTERVAL',
    type: 'text',
    group: 'general',
    default: '7d',
    description: 'How often all stored content is verified in the background, or off; off by default with s3',
    noun: 'a duration from 1m to 10 years',
    hint: 'such as 12h, 7d or off',
  },
  'scrub-rate': {
    environment: 'SCRUB_RATE',
    type: 'text',
    group: 'general',
    default: '16MiB',
    description: 'Bytes per second that background verification reads',
    noun: 'a size from 64KiB to 1TiB',
    hint: 'such as 4MiB or 100MB',
  },
  'drain-delay': {
    environment: 'DRAIN_DELAY',
    type: 'text',
    group: 'general',
    default: '0s',
    description:
      'Time to serve on after SIGTERM, with 503 at /readyz, until load balancers send no more pulls',
    noun: 'a duration of at most 10m',
    hint: 'such as 0s, 5s or 15s',
  },
  'drain-timeout': {
    environment: 'DRAIN_TIMEOUT',
    type: 'text',
    group: 'general',
    default: '5m',
    description: 'Time that running transfers have to finish after SIGTERM',
    noun: 'a duration of at most 24h',
    hint: 'such as 0s, 90s or 5m',
  },
  workers: {
    environment: 'WORKERS',
    type: 'text',
    group: 'general',
    default: 'cores, at most 4',
    description: 'Number of threads that serve clients; always 1 on a unix socket or outside Linux',
    noun: 'a number from 1 to 64',
    hint: 'such as 1, 2 or 8',
  },
  sendfile: {
    environment: 'SENDFILE',
    type: 'boolean',
    group: 'general',
    default: 'true',
    description: 'Send stored files inside the kernel where that works; --no-sendfile turns it off',
    noun: 'true or false',
    hint: 'write true or false',
  },
  traces: {
    environment: 'TRACES',
    type: 'boolean',
    group: 'general',
    default: 'false',
    description:
      'Send traces by OTLP over HTTP to the collector that the OTEL_EXPORTER_OTLP_* variables name',
    noun: 'true or false',
    hint: 'write true or false',
  },
  'log-format': {
    environment: 'LOG_FORMAT',
    type: 'text',
    group: 'general',
    default: 'auto',
    description: 'Format of the log: json, pretty (for people), or auto: pretty on a terminal',
    noun: 'a log format',
    hint: 'auto, json or pretty',
  },
  'log-level': {
    environment: 'LOG_LEVEL',
    type: 'text',
    group: 'general',
    default: 'info',
    description: 'Log level: debug, info, warn, error or silent',
    noun: 'a log level',
    hint: 'debug, info, warn, error or silent',
  },
  root: {
    environment: 'FILESYSTEM_ROOT',
    type: 'text',
    group: 'filesystem',
    default: './data',
    description: 'Directory of the cache',
    noun: 'a path',
    hint: 'the path of a directory',
  },
  'max-size': {
    environment: 'MAX_SIZE',
    type: 'text',
    group: 'filesystem',
    default: undefined,
    description:
      'Maximum size of the cache, in bytes or in percent of its file system; above it the cache evicts',
    noun: 'a size of at least 1MiB, or a percentage',
    hint: 'such as 200GiB or 80%',
  },
  'min-free': {
    environment: 'MIN_FREE',
    type: 'text',
    group: 'filesystem',
    default: undefined,
    description: 'Space to leave free on the file system; by default the larger of 5% and 2GiB, at most 10%',
    noun: 'a size or a percentage',
    hint: 'such as 20GiB, 5% or 0%',
  },
  'dynamic-share': {
    environment: 'DYNAMIC_SHARE',
    type: 'text',
    group: 'filesystem',
    default: '20%',
    description: 'Share of the cache for all registries that are not configured together',
    noun: 'a percentage',
    hint: 'from 0% to 100%',
  },
  'max-blob': {
    environment: 'MAX_BLOB',
    type: 'text',
    group: 'filesystem',
    default: '50%',
    description: 'Largest blob to keep, in bytes or in percent of the cache; larger blobs pass through',
    noun: 'a size of at least 1MiB, or a percentage',
    hint: 'such as 20GiB or 50%',
  },
  'read-only': {
    environment: 'READ_ONLY',
    type: 'boolean',
    group: 'filesystem',
    default: 'false',
    description: 'Write nothing: serve stored content, and pass everything else through',
    noun: 'true or false',
    hint: 'write true or false',
  },
  ...S3_SETTINGS,
  ...COMPATIBILITY,
} as const satisfies Record<string, SettingSource>

/** The name of a flag, without its dashes. */
export type Flag = keyof typeof SETTINGS

/** All flags, in the order in which the help has them. */
export const FLAGS = Object.keys(SETTINGS) as readonly Flag[]

/** True if a text names a flag. */
export function isFlag(name: string): name is Flag {
  return Object.hasOwn(SETTINGS, name)
}
