import type { TomlTable } from 'smol-toml'
import type { HostFiles, Plan, PlannedFile, Wish } from './client.ts'
import { planHostsFiles } from './hosts-toml.ts'
import { parseToml, quoted, setInToml, stringOf, stringsOf, tableAt, tableOf } from './toml.ts'

export const CONTAINERD_CONFIG = '/etc/containerd/config.toml'
export const CONTAINERD_CERTS = '/etc/containerd/certs.d'

/** Plans `hosts.toml` files, and the setting of the CRI plugin that names their directory. */
export async function planContainerd(wish: Wish, files: HostFiles): Promise<Plan> {
  const config = await planConfig(files)
  const hosts = await planHostsFiles(wish, files, CONTAINERD_CERTS)
  const isChanged = config.before !== config.after
  const notes = [
    ...(isChanged
      ? [
          'containerd reads config.toml when it starts: run `systemctl restart containerd`. Running containers keep running.',
        ]
      : []),
    'hosts.toml files take effect on the next pull. `nerdctl` finds them, `ctr images pull` needs --hosts-dir.',
  ]
  return { files: [config, ...hosts], notes }
}

/** Name of the plugin that pulls for Kubernetes, by the version of the configuration's format. */
export const CRI_PLUGINS: ReadonlyMap<number, string> = new Map([
  [2, 'io.containerd.grpc.v1.cri'],
  [3, 'io.containerd.cri.v1.images'],
  [4, 'io.containerd.cri.v1.images'],
])
/** Format of a new file: every containerd since 1.3 reads it. */
const NEW_FILE_VERSION = 2
/** First format whose containerd reads `hosts.toml` files by default (containerd 2.3). */
const DEFAULT_PATH_VERSION = 4
/** Directories of containerd 2.2 and newer if neither `config_path` nor mirrors are set. */
const DEFAULT_PATHS: readonly string[] = [CONTAINERD_CERTS, '/etc/docker/certs.d']

/** Registry settings of the plugin that pulls for Kubernetes. */
export interface CriRegistry {
  /** Directories of `hosts.toml` files, in search order. */
  readonly paths: readonly string[]
  /** The older form of mirrors, `registry.mirrors."docker.io".endpoint`. */
  readonly mirrors: TomlTable
  /** True if a host has TLS settings of the older form, which containerd refuses beside `config_path`. */
  readonly hasTls: boolean
}

/** Reads the registry settings; `undefined` if the format is unknown or the plugin is disabled. */
export function readCriRegistry(config: TomlTable): CriRegistry | undefined {
  const version = versionOf(config)
  const plugin = CRI_PLUGINS.get(version)
  if (plugin === undefined || isCriDisabled(config)) return undefined
  const registry = tableAt(config, 'plugins', plugin, 'registry') ?? {}
  const mirrors = tableAt(registry, 'mirrors') ?? {}
  const given = configPaths(stringOf(registry['config_path']) ?? '')
  const isDefault = given.length === 0 && version >= DEFAULT_PATH_VERSION && Object.keys(mirrors).length === 0
  const hosts = Object.values(tableAt(registry, 'configs') ?? {})
  return {
    paths: isDefault ? DEFAULT_PATHS : given,
    mirrors,
    hasTls: hosts.some(host => tableOf(host)?.['tls'] !== undefined),
  }
}

const CRI_NAMES: ReadonlySet<string> = new Set(['cri', ...CRI_PLUGINS.values()])

/** True if the CRI plugin is disabled, as in the package that comes with Docker. */
export function isCriDisabled(config: TomlTable): boolean {
  return stringsOf(config['disabled_plugins']).some(name => CRI_NAMES.has(name))
}

/** True if this containerd has default directories for `hosts.toml` files. */
export function hasDefaultPaths(containerdVersion: string): boolean {
  const [, major = '0', minor = '0'] = /^v?(\d+)\.(\d+)/.exec(containerdVersion) ?? []
  return Number(major) > 2 || (Number(major) === 2 && Number(minor) >= 2)
}

/** Splits `config_path`, which may list directories like PATH. */
function configPaths(text: string): readonly string[] {
  return text.split(':').filter(path => path !== '')
}

function versionOf(config: TomlTable): number {
  return Number(config['version'] ?? 1)
}

async function planConfig(files: HostFiles): Promise<PlannedFile> {
  const path = CONTAINERD_CONFIG
  const before = await files.read(path)
  const version = NEW_FILE_VERSION
  if (before === undefined)
    return { path, before, after: `version = ${version}\n\n${registryTable(version)}` }
  const config = parseToml(before)
  if (config === undefined) return refused(before, version, 'it is not valid TOML')
  if (isCriDisabled(config)) return { path, before, after: before }
  const registry = readCriRegistry(config)
  if (registry === undefined) return refused(before, version, unknownFormat(versionOf(config)))
  if (registry.paths.includes(CONTAINERD_CERTS)) return { path, before, after: before }
  const contradiction = contradictionOf(registry)
  if (contradiction !== undefined) return refused(before, versionOf(config), contradiction)
  const table = ['plugins', CRI_PLUGINS.get(versionOf(config)) ?? '', 'registry']
  const after = setInToml(before, table, { key: 'config_path', value: CONTAINERD_CERTS })
  return after === undefined
    ? refused(
        before,
        versionOf(config),
        `its registry table cannot be edited here; set config_path = "${CONTAINERD_CERTS}" in it`,
      )
    : { path, before, after }
}

function unknownFormat(version: number): string {
  return `its format is version ${version}; \`containerd config migrate\` prints it in a newer one`
}

function contradictionOf({ paths, mirrors, hasTls }: CriRegistry): string | undefined {
  if (paths.length > 0)
    return `it names other directories, config_path = "${paths.join(':')}"; add ${CONTAINERD_CERTS} to them`
  const remove = `containerd does not start with them and config_path = "${CONTAINERD_CERTS}"; remove them first`
  if (Object.keys(mirrors).length > 0) return `it has registry.mirrors: ${remove}`
  return hasTls ? `it has TLS settings in registry.configs: ${remove}` : undefined
}

function refused(before: string, version: number, refusal: string): PlannedFile {
  const after = `${before.trimEnd()}\n\n${registryTable(CRI_PLUGINS.has(version) ? version : NEW_FILE_VERSION)}`
  return { path: CONTAINERD_CONFIG, before, after, refusal }
}

function registryTable(version: number): string {
  const plugin = CRI_PLUGINS.get(version) ?? ''
  return `[plugins.${quoted(plugin)}.registry]\n  config_path = ${quoted(CONTAINERD_CERTS)}\n`
}
