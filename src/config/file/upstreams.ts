import { constants } from 'node:fs'
import { access, readFile, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { nearest } from '../../lib/words/nearest.ts'
import { DOCKER_HUB, DOCKER_HUB_HOST, type Namespace, parseConfiguredNamespace } from '../../oci/namespace.ts'
import {
  type Config,
  type FileSections,
  UPSTREAM_DEFAULTS,
  type UpstreamConfig,
  type UpstreamCredentials,
} from '../config.ts'
import { ConfigError, type Problem, type ValueOrigin } from '../problem.ts'
import { contradictions } from './contradictions.ts'
import { ENTRY, ENTRY_KEYS, type Entry, type EntryKey, explainIssue, type Refusal } from './entry.ts'
import type { NamedFile, ShownValue } from './section.ts'
import { readSections } from './sections.ts'
import { isShowable, keyPath, readYamlFile, type YamlEntry } from './yaml-file.ts'

/** Credentials from the environment, which win over those of the file. */
export type CredentialsByNamespace = ReadonlyMap<Namespace, UpstreamCredentials>

/** An upstream and the origins of its values. A key that is not in `origins` has its default. */
export interface LoadedUpstream {
  readonly config: UpstreamConfig
  readonly origins: ReadonlyMap<EntryKey, ValueOrigin>
}

/** Upstreams from the file and from the credentials of the environment, and the file's other sections. */
export interface LoadedUpstreams {
  readonly upstreams: readonly LoadedUpstream[]
  readonly sections: FileSections
  /** The sections that the file has, for display. */
  readonly shown: readonly ShownValue[]
  readonly problems: readonly Problem[]
}

/** The part of the configuration that a reload of the upstream file replaces. */
export type FileConfig = Pick<Config, 'upstreams' | 'sections'>

const CREDENTIALS_ORIGIN: ValueOrigin = { kind: 'environment', name: 'UPSTREAM_CREDENTIALS' }
const FILE_KEYS = [
  'ca_file',
  'client_cert_file',
  'client_key_file',
  'password_file',
  'docker_config',
] as const
const CREDENTIAL_KEYS: ReadonlySet<EntryKey> = new Set([
  'username',
  'password',
  'password_file',
  'docker_config',
])

/**
 * Reads the upstream file, as a reload does, and gives the credentials of the environment to its entries.
 * Throws a {@link ConfigError} with every problem.
 */
export async function loadUpstreams(
  file: string,
  credentials: CredentialsByNamespace = new Map(),
): Promise<FileConfig> {
  const loaded = await readUpstreams({ name: file, path: resolve(file) }, credentials)
  if (loaded.problems.length > 0) throw new ConfigError(loaded.problems)
  return { upstreams: loaded.upstreams.map(upstream => upstream.config), sections: loaded.sections }
}

/** Reads the upstream file, if there is one. Its mistakes are problems in the result; they never throw. */
export async function readUpstreams(
  file: NamedFile | undefined,
  credentials: CredentialsByNamespace,
): Promise<LoadedUpstreams> {
  const problems: Problem[] = []
  const text = file === undefined ? undefined : await readText(file, problems)
  const named = file ?? { name: '', path: '' }
  const content = readYamlFile(text ?? '', named.name)
  problems.push(...content.problems)
  const upstreams = await readEntries(named, content.entries, { credentials, problems })
  const { sections, shown, problems: mistakes } = readSections(content.sections, named)
  problems.push(...mistakes)
  const configured = new Set(upstreams.map(upstream => upstream.config.namespace))
  for (const [namespace, given] of credentials) {
    if (!configured.has(namespace)) upstreams.push(upstreamOfCredentials(namespace, given))
  }
  return { upstreams, sections, shown, problems }
}

async function readEntries(
  file: NamedFile,
  entries: readonly YamlEntry[],
  { credentials, problems }: { readonly credentials: CredentialsByNamespace; readonly problems: Problem[] },
): Promise<LoadedUpstream[]> {
  const lines = new Map<Namespace, number>()
  const upstreams: LoadedUpstream[] = []
  for (const entry of entries) {
    const reading = new EntryReading(file, entry)
    const namespace = reading.checkNamespace(lines)
    const given = namespace === undefined ? undefined : credentials.get(namespace)
    await reading.check(given !== undefined)
    problems.push(...reading.problems)
    if (reading.parsed !== undefined) upstreams.push(assemble(reading.parsed, reading, given))
  }
  return upstreams
}

async function readText(file: NamedFile, problems: Problem[]): Promise<string | undefined> {
  try {
    return await readFile(file.path, 'utf8')
  } catch (error) {
    const origin = { kind: 'file', file: file.name, line: undefined } as const
    problems.push({ origin, path: '', message: unreadable(error), hint: 'the upstream file' })
    return undefined
  }
}

/** Reads one entry. Its checks are independent, so that one run finds every problem. */
class EntryReading {
  readonly problems: Problem[] = []
  parsed: Entry | undefined
  readonly directory: string
  readonly #file: NamedFile
  readonly #entry: YamlEntry
  /** Values of the known keys. */
  readonly #values: ReadonlyMap<EntryKey, unknown>

  constructor(file: NamedFile, entry: YamlEntry) {
    this.#file = file
    this.directory = dirname(file.path)
    this.#entry = entry
    const known = ENTRY_KEYS.map(key => [key, entry.values.get(key)?.value] as const)
    this.#values = new Map(known.filter(([, value]) => value !== undefined))
  }

  /** Line of each key that has a value. */
  origins(): ReadonlyMap<EntryKey, ValueOrigin> {
    return new Map([...this.#values.keys()].map(key => [key, this.#origin(key)]))
  }

  /** The entry's namespace, if it is valid. An earlier entry for the same namespace is a problem. */
  checkNamespace(lines: Map<Namespace, number>): Namespace | undefined {
    const text = this.#values.get('namespace')
    const namespace = typeof text === 'string' ? parseConfiguredNamespace(text) : undefined
    if (namespace === undefined) return undefined
    const line = lines.get(namespace)
    const hint = 'one entry for each namespace'
    if (line === undefined) lines.set(namespace, this.#entry.line)
    else this.#refuse('namespace', { message: `is ${namespace} again, which line ${line} configures`, hint })
    return namespace
  }

  async check(hasOtherCredentials: boolean): Promise<void> {
    this.#checkKeys()
    this.#parse()
    const isIgnored = (key: EntryKey): boolean => hasOtherCredentials && CREDENTIAL_KEYS.has(key)
    const values = new Map([...this.#values].filter(([key]) => !isIgnored(key)))
    for (const { key, ...refusal } of contradictions(values)) this.#refuse(key, refusal, this.#entry.path)
    await this.#checkFiles(values)
  }

  #checkKeys(): void {
    for (const key of this.#entry.values.keys()) {
      if (ENTRY_KEYS.some(known => known === key)) continue
      const meant = isShowable(key) ? nearest(key, ENTRY_KEYS) : undefined
      const known = key.includes(':')
        ? 'a colon must be followed by a space'
        : `known keys: ${ENTRY_KEYS.join(', ')}`
      const message = isShowable(key) ? 'is not a known key' : 'has an unknown key'
      this.#refuse(key, { message, hint: meant === undefined ? known : `did you mean ${meant}?` })
    }
    for (const key of ['namespace', 'host'] as const) {
      if (this.#values.has(key)) continue
      this.#refuse(key, { message: 'is missing', hint: 'namespace and host are required' })
    }
  }

  #parse(): void {
    const result = ENTRY.safeParse(Object.fromEntries(this.#values))
    this.parsed = result.data
    for (const issue of result.error?.issues ?? []) {
      const [key, item] = issue.path
      if (!this.#values.has(key as EntryKey)) continue
      const value = this.#values.get(key as EntryKey)
      const isItem = typeof item === 'number' && Array.isArray(value)
      const path = `${keyPath(this.#entry.path, String(key))}${isItem ? `[${item}]` : ''}`
      this.#refuse(String(key), explainIssue(issue, isItem ? (value as unknown[])[item] : value), path)
    }
  }

  async #checkFiles(values: ReadonlyMap<EntryKey, unknown>): Promise<void> {
    for (const key of FILE_KEYS) {
      const path = values.get(key)
      if (typeof path !== 'string' || path === '' || path.includes('\0')) continue
      const message = await whyUnreadable(resolve(this.directory, path))
      if (message !== undefined) this.#refuse(key, { message, hint: undefined })
    }
  }

  #refuse(key: string, refusal: Refusal, path = keyPath(this.#entry.path, key)): void {
    this.problems.push({ origin: this.#origin(key), path, ...refusal })
  }

  #origin(key: string): ValueOrigin {
    const line = this.#entry.values.get(key)?.line ?? this.#entry.line
    return { kind: 'file', file: this.#file.name, line }
  }
}

function assemble(
  entry: Entry,
  reading: EntryReading,
  given: UpstreamCredentials | undefined,
): LoadedUpstream {
  const at = (path: string | undefined): string | undefined =>
    path === undefined ? undefined : resolve(reading.directory, path)
  const config: UpstreamConfig = {
    namespace: entry.namespace,
    host: entry.host,
    tls: entry.tls ?? UPSTREAM_DEFAULTS.tls,
    acceptInvalidCerts: entry.accept_invalid_certs ?? UPSTREAM_DEFAULTS.acceptInvalidCerts,
    caFile: at(entry.ca_file),
    clientCertFile: at(entry.client_cert_file),
    clientKeyFile: at(entry.client_key_file),
    userAgent: entry.user_agent,
    credentials: given ?? credentialsOf(entry, at),
    manifestInvalidationMs: entry.manifest_invalidation_time ?? UPSTREAM_DEFAULTS.manifestInvalidationMs,
    blobInvalidationMs: entry.blob_invalidation_time,
    staleIfErrorMs: entry.stale_if_error ?? UPSTREAM_DEFAULTS.staleIfErrorMs,
    revalidationWaitMs: entry.revalidation_wait ?? UPSTREAM_DEFAULTS.revalidationWaitMs,
    deletedTags: entry.deleted_tags ?? UPSTREAM_DEFAULTS.deletedTags,
    silenceMaxMs: entry.silence_max ?? UPSTREAM_DEFAULTS.silenceMaxMs,
    allowAddresses: entry.allow_addresses ?? [],
    realms: entry.realms ?? [],
    retryAfterMaxMs: entry.retry_after_max ?? UPSTREAM_DEFAULTS.retryAfterMaxMs,
    allowHttpRedirects: entry.allow_http_redirects ?? UPSTREAM_DEFAULTS.allowHttpRedirects,
    proxy: entry.proxy,
  }
  const origins = new Map(reading.origins())
  if (given !== undefined) {
    for (const key of CREDENTIAL_KEYS) origins.delete(key)
    origins.set('username', CREDENTIALS_ORIGIN).set('password', CREDENTIALS_ORIGIN)
  }
  return { config, origins }
}

function credentialsOf(
  entry: Entry,
  at: (path: string | undefined) => string | undefined,
): UpstreamCredentials | undefined {
  const { username, password } = entry
  const passwordFile = at(entry.password_file)
  const dockerConfig = at(entry.docker_config)
  if (dockerConfig !== undefined) return { kind: 'docker-config', file: dockerConfig }
  if (username === undefined) return undefined
  if (password !== undefined) return { kind: 'password', username, password }
  return passwordFile === undefined ? undefined : { kind: 'password-file', username, passwordFile }
}

function upstreamOfCredentials(namespace: Namespace, credentials: UpstreamCredentials): LoadedUpstream {
  const config: UpstreamConfig = {
    namespace,
    host: namespace === DOCKER_HUB ? DOCKER_HUB_HOST : namespace,
    ...UPSTREAM_DEFAULTS,
    caFile: undefined,
    clientCertFile: undefined,
    clientKeyFile: undefined,
    userAgent: undefined,
    credentials,
    blobInvalidationMs: undefined,
    allowAddresses: [],
    realms: [],
  }
  const keys = ['namespace', 'username', 'password'] as const
  return { config, origins: new Map(keys.map(key => [key, CREDENTIALS_ORIGIN])) }
}

async function whyUnreadable(path: string): Promise<string | undefined> {
  try {
    if ((await stat(path)).isDirectory()) return 'is a directory, not a file'
    await access(path, constants.R_OK)
    return undefined
  } catch (error) {
    return unreadable(error)
  }
}

/** Why a file cannot be read, as the end of a sentence. */
function unreadable(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code
  if (code === 'ENOENT' || code === 'ENOTDIR') return 'names a file that does not exist'
  if (code === 'EACCES' || code === 'EPERM') return 'names a file that may not be read'
  if (code === 'EISDIR') return 'names a directory, not a file'
  return `names a file that cannot be read: ${code ?? 'unknown error'}`
}
