import type { TomlTable } from 'smol-toml'
import { matchesGlob } from '../../oci/name-pattern.ts'
import type { HostFiles } from './client.ts'
import {
  CONTAINERD_CERTS,
  CONTAINERD_CONFIG,
  CRI_PLUGINS,
  type CriRegistry,
  hasDefaultPaths,
  isCriDisabled,
  readCriRegistry,
} from './containerd.ts'
import { DOCKER_CERTS } from './docker.ts'
import { whyUntouched } from './host-files.ts'
import { parseToml, stringsOf } from './toml.ts'

/** Runtimes of a node that `entrepot node-config` knows. */
export const NODE_RUNTIMES = ['containerd', 'k3s', 'rke2', 'microk8s', 'crio', 'docker'] as const

export type NodeRuntimeName = (typeof NODE_RUNTIMES)[number]

/** A runtime of a node, and where its mirrors are written. */
export interface NodeRuntime {
  readonly name: NodeRuntimeName
  /** Directories of `hosts.toml` files, in the order in which they are searched; none for CRI-O. */
  readonly directories: readonly string[]
  /** Facts for the operator, each a whole sentence. */
  readonly notes: readonly string[]
  /** Why nothing is written for it. */
  readonly problem?: string
  /** The drop-in that would make containerd read the directories after a restart. */
  readonly dropIn?: { readonly path: string; readonly text: string }
}

interface Containerd {
  readonly name: NodeRuntimeName
  readonly config: string
  readonly certs: string
}

const RANCHER = '/var/lib/rancher'
const MICROK8S = '/var/snap/microk8s/current'
const CONTAINERDS: readonly Containerd[] = [
  { name: 'containerd', config: CONTAINERD_CONFIG, certs: CONTAINERD_CERTS },
  ...(['k3s', 'rke2'] as const).map(name => ({
    name,
    config: `${RANCHER}/${name}/agent/etc/containerd/config.toml`,
    certs: `${RANCHER}/${name}/agent/etc/containerd/certs.d`,
  })),
  { name: 'microk8s', config: `${MICROK8S}/args/containerd.toml`, certs: `${MICROK8S}/args/certs.d` },
]

/** Files and directories that show that a runtime is on the node. */
const SIGNS: ReadonlyMap<NodeRuntimeName, string> = new Map([
  ['crio', '/etc/crio'],
  ['docker', '/etc/docker'],
])

/** Finds the runtimes of a node: the named ones, or those that show themselves by their configuration. */
export async function findRuntimes(
  files: HostFiles,
  {
    named,
    containerdVersion,
  }: { readonly named: readonly NodeRuntimeName[]; readonly containerdVersion: string | undefined },
): Promise<readonly NodeRuntime[]> {
  const found: NodeRuntime[] = []
  const mayBe = (name: NodeRuntimeName): boolean => named.length === 0 || named.includes(name)
  for (const each of CONTAINERDS.filter(({ name }) => mayBe(name))) {
    const given = { isNamed: named.length > 0, version: containerdVersion }
    const runtime = await findContainerd(files, each, given).catch((error: unknown) => failed(each, error))
    if (runtime !== undefined) found.push(runtime)
  }
  for (const [name, sign] of SIGNS) {
    const isThere = named.length > 0 || (await files.list(sign)).length > 0
    if (mayBe(name) && isThere)
      found.push({ name, directories: name === 'docker' ? [DOCKER_CERTS] : [], notes: notesOf(name) })
  }
  return found
}

async function findContainerd(
  files: HostFiles,
  each: Containerd,
  { isNamed, version }: { readonly isNamed: boolean; readonly version: string | undefined },
): Promise<NodeRuntime | undefined> {
  const config = await files.read(each.config)
  const isThere = isNamed || config !== undefined || (await files.list(each.certs)).length > 0
  return isThere ? await readContainerd(files, each, { config, version }) : undefined
}

/** A file that cannot be read concerns one runtime, and not the others. */
function failed({ name }: Containerd, error: unknown): NodeRuntime {
  const problem = whyUntouched(error)
  if (problem === undefined) throw error
  return { name, directories: [], notes: [], problem }
}

function notesOf(name: NodeRuntimeName): readonly string[] {
  return name === 'docker'
    ? ['Docker reads these files with the containerd image store only; daemon.json is left alone.']
    : ['CRI-O reads the file after `systemctl reload crio`.']
}

interface GivenConfig {
  readonly config: string | undefined
  readonly version: string | undefined
}

async function readContainerd(
  files: HostFiles,
  { name, config: path, certs }: Containerd,
  { config: text, version }: GivenConfig,
): Promise<NodeRuntime> {
  if (text === undefined)
    return { name, directories: [certs], notes: hasDefaults(version) ? [] : [withoutConfig(path, certs)] }
  const config = parseToml(text)
  if (config === undefined) return { name, directories: [], notes: [], problem: `${path} is not valid TOML` }
  if (isCriDisabled(config))
    return {
      name,
      directories: [certs],
      notes: [`${path} disables the CRI plugin: Kubernetes does not use it.`],
    }
  const registries = [config, ...(await imported(files, path, config))].map(readCriRegistry)
  const known = registries.filter(registry => registry !== undefined)
  if (known.length === 0)
    return { name, directories: [], notes: [], problem: `${path} has a format that is not known here` }
  const directories = known.findLast(({ paths }) => paths.length > 0)?.paths
  if (directories !== undefined) return readsFrom(name, path, directories.map(resolved))
  const dropIn = dropInFor(config)
  const withDropIn = dropIn === undefined ? {} : { dropIn }
  if (known.some(hasOlderForm))
    return {
      name,
      directories: [],
      notes: [],
      problem: `${path} has registry.mirrors or registry.configs, beside which containerd reads no hosts.toml; remove them and set config_path`,
    }
  const isOurs = dropIn !== undefined && (await files.read(dropIn.path)) !== undefined
  const isRead = isOurs || hasDefaults(version)
  return { name, directories: [certs], notes: isRead ? [] : [withoutPath(path, certs)], ...withDropIn }
}

/** A relative path starts where containerd was started, which is not known here. */
function readsFrom(name: NodeRuntimeName, path: string, directories: readonly string[]): NodeRuntime {
  const relative = directories.find(directory => !directory.startsWith('/'))
  if (relative === undefined) return { name, directories, notes: [] }
  const problem = `${path} has the config_path ${JSON.stringify(relative)}, which is not absolute`
  return { name, directories: [], notes: [], problem }
}

function hasOlderForm({ mirrors, hasTls }: CriRegistry): boolean {
  return Object.keys(mirrors).length > 0 || hasTls
}

function hasDefaults(version: string | undefined): boolean {
  return version !== undefined && hasDefaultPaths(version.replace(/^containerd:\/\//, ''))
}

function withoutConfig(path: string, certs: string): string {
  return `there is no ${path}: containerd before 2.2 reads ${certs} only after config_path is set and it is restarted; \`entrepot setup containerd\` prints the file`
}

function withoutPath(path: string, certs: string): string {
  return `${path} sets no config_path: containerd before 2.2 reads ${certs} only after config_path = "${certs}" is set and it is restarted`
}

/** MicroK8s writes its own variable into the file. */
function resolved(directory: string): string {
  return directory.replace(/^\$\{?SNAP_DATA\}?/, MICROK8S)
}

/** The files that a configuration imports. Those that are not valid, and our own, are left out. */
async function imported(files: HostFiles, path: string, config: TomlTable): Promise<readonly TomlTable[]> {
  const here = path.slice(0, path.lastIndexOf('/'))
  const found: TomlTable[] = []
  for (const pattern of stringsOf(config['imports'])) {
    const full = pattern.startsWith('/') ? pattern : `${here}/${pattern}`
    const [directory, glob] = [full.slice(0, full.lastIndexOf('/')), full.slice(full.lastIndexOf('/') + 1)]
    const names = glob.includes('*')
      ? (await files.list(directory)).filter(name => matchesGlob(glob, name))
      : [glob]
    for (const name of names.filter(each => each !== DROP_IN_NAME)) {
      const table = parseToml((await files.read(`${directory}/${name}`)) ?? '')
      if (table !== undefined) found.push({ version: config['version'] ?? 1, ...table })
    }
  }
  return found
}

const DROP_IN_NAME = '50-entrepot.toml'

/** A file that the configuration imports already, by a pattern of all names. */
function dropInFor(config: TomlTable): NodeRuntime['dropIn'] {
  const version = Number(config['version'] ?? 1)
  const plugin = CRI_PLUGINS.get(version)
  const pattern = stringsOf(config['imports']).find(each => /^\/[^*]*\/\*\.toml$/.test(each))
  if (plugin === undefined || pattern === undefined) return undefined
  return {
    path: pattern.replace('*.toml', DROP_IN_NAME),
    text: `version = ${version}\n\n[plugins."${plugin}".registry]\n  config_path = "${CONTAINERD_CERTS}"\n`,
  }
}
