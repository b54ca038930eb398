import { availableParallelism } from 'node:os'
import { resolve } from 'node:path'
import { parseDuration } from '../lib/duration.ts'
import { parseNat64Prefix } from '../lib/ip-address.ts'
import { LOG_FORMATS, LOG_LEVELS, type LogFormat, type LogLevel } from '../lib/log-level.ts'
import { DOCKER_HUB, parseConfiguredNamespace } from '../oci/namespace.ts'
import { readAdminToken } from './admin-token.ts'
import { readClientSettings } from './client-limits.ts'
import type { Config, ListenAddress, NamespacePolicy } from './config.ts'
import { type GivenCredentials, parseCredentials } from './credentials.ts'
import { effectiveSettings, type Setting } from './effective.ts'
import type { ShownValue } from './file/section.ts'
import { type LoadedUpstream, readUpstreams } from './file/upstreams.ts'
import { formatListen, parseListen } from './listen.ts'
import { compatibilityNotices, riskNotices } from './notices.ts'
import { readPeers } from './peers/read-peers.ts'
import { ConfigError, type Problem } from './problem.ts'
import { type EgressConfig, parseProxy, parseProxyBypass } from './proxy.ts'
import { parseBoolean, SettingsReader, type SettingTexts } from './reader.ts'
import { readStore, type StoreKind } from './store.ts'
import { readTls } from './tls/read-tls.ts'
import { readScrub, readSpace } from './upkeep.ts'

/** Sources of the configuration, without the files that it names. */
export interface ConfigSources extends SettingTexts {
  /** Store that the sub-command names; `undefined` means the file system. */
  readonly store: StoreKind | undefined
  /** Directory at which relative paths start. */
  readonly cwd: string
  /** Problems that were already found in the command line. */
  readonly problems: readonly Problem[]
}

/** The configuration, with the origins of its values, notes and warnings. */
export interface LoadedConfig {
  readonly config: Config
  readonly settings: readonly Setting[]
  readonly upstreams: readonly LoadedUpstream[]
  /** The other sections of the upstream file, for display. */
  readonly sections: readonly ShownValue[]
  /** Notes: options without effect, and secrets on the command line. */
  readonly notices: readonly string[]
  /** Warnings about risks of the configuration. */
  readonly risks: readonly string[]
}

/**
 * Loads the configuration from flags, environment, upstream file and defaults. Throws a {@link ConfigError}
 * with every problem.
 */
export async function loadConfig(sources: ConfigSources): Promise<LoadedConfig> {
  const reader = new SettingsReader(sources, sources.problems)
  const { cwd } = sources
  const listens = readListens(reader, cwd)
  const adminToken = await readAdminToken(reader, listens.adminListen, cwd)
  const fileGiven = reader.find('upstream-config-file')
  const fileName = reader.parse(fileGiven, text => (text.includes('\0') ? undefined : text))
  const file = fileName === undefined ? undefined : { name: fileName, path: resolve(cwd, fileName) }
  const { credentials, problems } = readCredentials(reader)
  const loaded = await readUpstreams(file, credentials)
  const scalars = readScalars(reader)
  const egress = readEgress(reader)
  const scrub = readScrub(reader, sources.store)
  const store = readStore(reader, sources.store, cwd)
  const space = readSpace(reader, sources.store)
  const clients = readClientSettings(reader, cwd)
  const tls = await readTls(reader, {
    cwd,
    store,
    listen: listens.listen,
    isReadOnly: scalars.isReadOnly ?? false,
  })
  const peers = await readPeers(reader, cwd)
  const notices = compatibilityNotices(reader)
  reader.problems.push(...problems, ...loaded.problems)
  if (reader.problems.length > 0) throw new ConfigError(reader.problems)
  const config: Config = {
    ...listens,
    tls,
    ...clients,
    ...adminToken,
    ...scalars,
    egress,
    ...(peers === undefined ? {} : { peers }),
    scrub,
    upstreamConfigFile: file?.path,
    upstreamCredentials: credentials,
    upstreams: loaded.upstreams.map(upstream => upstream.config),
    sections: loaded.sections,
    store,
    space,
  }
  return {
    config,
    settings: effectiveSettings(config, reader, sources.store),
    upstreams: loaded.upstreams,
    sections: loaded.shown,
    notices,
    risks: riskNotices(config),
  }
}

type Listens = Pick<Config, 'listen' | 'adminListen'>

const ANY_HOST = '0.0.0.0'
const DEFAULT_LISTEN: ListenAddress = { kind: 'tcp', host: ANY_HOST, port: 8080 }
const LOOPBACK = '127.0.0.1'
const ADMIN_PORT = 8081

function readListens(reader: SettingsReader, cwd: string): Listens {
  const given = reader.find('listen', 'port')
  const port = reader.find('port')
  if (given?.flag === 'listen' && given.origin.kind === 'flag' && port?.origin.kind === 'flag') {
    reader.refuse(port, 'contradicts --listen', 'keep one of them')
  }
  const listen =
    reader.parse(given, text => (given?.flag === 'port' ? parsePort(text) : parseListen(text, cwd))) ??
    (reader.find('listen-tls') === undefined ? DEFAULT_LISTEN : { ...DEFAULT_LISTEN, host: LOOPBACK })
  const adminGiven = reader.find('admin-listen')
  const admin = reader.parse(adminGiven, text => (text === 'off' ? text : parseListen(text, cwd)))
  const adminListen = admin === 'off' ? undefined : (admin ?? defaultAdmin(listen))
  if (adminGiven !== undefined && adminListen !== undefined && isSame(listen, adminListen)) {
    reader.refuse(adminGiven, 'is the address that clients connect to (--listen)', 'choose another, or off')
  }
  return { listen, adminListen }
}

/** The default admin port, or the next one if clients use that. */
function defaultAdmin(listen: ListenAddress): ListenAddress {
  const isTaken = listen.kind === 'tcp' && listen.port === ADMIN_PORT
  return { kind: 'tcp', host: LOOPBACK, port: isTaken ? ADMIN_PORT + 1 : ADMIN_PORT }
}

/** Two listeners on port 0 get different ports. */
function isSame(one: ListenAddress, other: ListenAddress): boolean {
  return formatListen(one) === formatListen(other) && !(one.kind === 'tcp' && one.port === 0)
}

function parsePort(text: string): ListenAddress | undefined {
  return /^[0-9]{1,5}$/.test(text) ? parseListen(`${ANY_HOST}:${text}`, '/') : undefined
}

function readCredentials(reader: SettingsReader): GivenCredentials {
  const given = reader.find('upstream-credentials')
  return given === undefined
    ? { credentials: new Map(), problems: [] }
    : parseCredentials(given.text, given.origin)
}

type Scalars = Pick<
  Config,
  | 'defaultNamespace'
  | 'namespaces'
  | 'nat64Prefix'
  | 'checkCacheDigest'
  | 'isReadOnly'
  | 'isOffline'
  | 'passesThrough'
  | 'isSingleWriter'
  | 'provesRanges'
  | 'drainDelayMs'
  | 'drainMs'
  | 'workers'
  | 'usesSendfile'
  | 'traces'
  | 'servesSetup'
  | 'logFormat'
  | 'logLevel'
>

const POLICIES: ReadonlyMap<string, NamespacePolicy> = new Map(
  (['public', 'configured', 'any'] as const).map(policy => [policy, policy]),
)
/** Each thread takes memory, and four of them saturate most networks. */
const WORKERS_DEFAULT_MAX = 4
const WORKERS_MAX = 64
const DRAIN_DEFAULT_MS = 300_000
const DRAIN_MAX_MS = 24 * 3_600_000

function readScalars(reader: SettingsReader): Scalars {
  const namespace = reader.find('default-namespace', 'default-upstream-namespace')
  return {
    defaultNamespace: reader.parse(namespace, parseConfiguredNamespace) ?? DOCKER_HUB,
    namespaces: reader.parse(reader.find('namespaces'), text => POLICIES.get(text)) ?? 'public',
    nat64Prefix: reader.parse(reader.find('nat64-prefix'), parseNat64),
    checkCacheDigest: reader.parse(reader.find('check-cache-digest'), parseBoolean) ?? false,
    isReadOnly: reader.parse(reader.find('read-only'), parseBoolean) ?? false,
    isOffline: reader.parse(reader.find('offline'), parseBoolean) ?? false,
    isSingleWriter: reader.parse(reader.find('single-writer'), parseBoolean) ?? false,
    passesThrough: reader.parse(reader.find('pass-through'), parseBoolean) ?? false,
    provesRanges: reader.parse(reader.find('prove-ranges'), parseBoolean) ?? false,
    drainDelayMs: reader.parse(reader.find('drain-delay'), parseDelay) ?? 0,
    drainMs: reader.parse(reader.find('drain-timeout'), parseDrain) ?? DRAIN_DEFAULT_MS,
    workers:
      reader.parse(reader.find('workers'), parseWorkers) ??
      Math.min(availableParallelism(), WORKERS_DEFAULT_MAX),
    usesSendfile: reader.parse(reader.find('sendfile'), parseBoolean) ?? true,
    traces: reader.parse(reader.find('traces'), parseBoolean) ?? false,
    servesSetup: reader.parse(reader.find('setup-scripts'), parseBoolean) ?? true,
    logFormat: reader.parse(reader.find('log-format'), parseLogFormat) ?? 'auto',
    logLevel: reader.parse(reader.find('log-level'), parseLogLevel) ?? 'info',
  }
}

/** An empty proxy counts as none, as with every variable. */
function readEgress(reader: SettingsReader): EgressConfig {
  return {
    httpsProxy: reader.parse(reader.find('https-proxy'), parseProxy),
    httpProxy: reader.parse(reader.find('http-proxy'), parseProxy),
    proxyBypass: reader.parse(reader.find('proxy-bypass'), parseProxyBypass) ?? [],
    trustsProxies: reader.parse(reader.find('trust-egress-proxy'), parseBoolean) ?? false,
  }
}

function parseLogFormat(text: string): LogFormat | undefined {
  return LOG_FORMATS.find(format => format === text.toLowerCase())
}

function parseLogLevel(text: string): LogLevel | undefined {
  return LOG_LEVELS.find(level => level === text.toLowerCase())
}

function parseWorkers(text: string): number | undefined {
  const workers = /^[0-9]{1,2}$/.test(text) ? Number(text) : 0
  return workers >= 1 && workers <= WORKERS_MAX ? workers : undefined
}

function parseNat64(text: string): string | undefined {
  return parseNat64Prefix(text) === undefined ? undefined : text
}

/** A delay beyond this is a mistake: orchestrators have killed the process long before. */
const DELAY_MAX_MS = 10 * 60_000

function parseDelay(text: string): number | undefined {
  const delayMs = parseDuration(text)
  return delayMs === undefined || delayMs > DELAY_MAX_MS ? undefined : delayMs
}

function parseDrain(text: string): number | undefined {
  const drainMs = parseDuration(text)
  return drainMs === undefined || drainMs > DRAIN_MAX_MS ? undefined : drainMs
}
