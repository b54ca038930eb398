import type { TomlTable } from 'smol-toml'
import { parseDocument } from 'yaml'
import type { HostFiles } from '../clients/client.ts'
import { CONTAINERD_CERTS, CONTAINERD_CONFIG, configPaths, criRegistry } from '../clients/containerd.ts'
import { endpointsOf, K3S_REGISTRIES, valueAt } from '../clients/k3s.ts'
import { parseToml, stringsOf, tableAt, tableOf } from '../clients/toml.ts'
import { inspectHosts } from './inspect-hosts.ts'
import { EVERY, type Inspection, isInstalled, mirrorOf, type Route } from './inspection.ts'

const AGENTS = ['containerd/', 'nerdctl/']

/** containerd: `hosts.toml` files, and whether the plugin that pulls for Kubernetes is told of them. */
export async function inspectContainerd(files: HostFiles): Promise<Inspection | undefined> {
  const text = await files.read(CONTAINERD_CONFIG)
  const config = parseToml(text ?? '')
  const registry = config === undefined ? undefined : criRegistry(config)
  const named = configPaths(registry)
  const directory = named[0] ?? CONTAINERD_CERTS
  const hosts = await inspectHosts(files, directory)
  const isHere = text !== undefined || hosts.routes.size > 0 || (await isInstalled(files, 'containerd'))
  if (!isHere) return undefined
  const wrongs = [...hosts.wrongs]
  if (config === undefined) wrongs.push(`${CONTAINERD_CONFIG} is no TOML: containerd does not start with it.`)
  const old = oldMirrors(registry)
  if (old.size > 0 && named.length > 0)
    wrongs.push(
      `${CONTAINERD_CONFIG} has both config_path and registry.mirrors: containerd's CRI plugin does not start with both.`,
    )
  else if (named.length === 0 && hosts.routes.size > 0)
    wrongs.push(
      `${CONTAINERD_CONFIG} does not name ${directory} as config_path: what Kubernetes pulls here ignores the hosts.toml files and goes directly. \`entrepot setup containerd\` shows the lines.`,
    )
  const routes = hosts.routes.size > 0 ? hosts.routes : old
  return { client: 'containerd', agents: AGENTS, routes, wrongs, notes: hosts.notes }
}

/** The mirrors of the older form, `registry.mirrors."docker.io".endpoint`. */
function oldMirrors(registry: TomlTable | undefined): ReadonlyMap<string, Route> {
  const routes = new Map<string, Route>()
  for (const [name, entry] of Object.entries(tableAt(registry ?? {}, 'mirrors') ?? {})) {
    const [first] = stringsOf(tableOf(entry)?.['endpoint'])
    if (first !== undefined)
      routes.set(name === '*' ? EVERY : name, { mirror: mirrorOf(first), file: CONTAINERD_CONFIG })
  }
  return routes
}

/** k3s, which makes containerd's configuration of a file of its own. */
export async function inspectK3s(files: HostFiles): Promise<Inspection | undefined> {
  const text = await files.read(K3S_REGISTRIES)
  if (text === undefined && !(await isInstalled(files, 'k3s'))) return undefined
  const document = parseDocument(text ?? '')
  const isReadable = document.errors.length === 0
  const value: unknown = isReadable ? document.toJS() : undefined
  const wrongs = isReadable ? [] : [`${K3S_REGISTRIES} is no YAML: k3s does not start with it.`]
  const routes = new Map<string, Route>()
  const mirrors = valueAt(value, 'mirrors')
  for (const name of typeof mirrors === 'object' && mirrors !== null ? Object.keys(mirrors) : []) {
    const first = endpointsOf(value, name)?.[0]
    if (typeof first === 'string')
      routes.set(name === '*' ? EVERY : name, { mirror: mirrorOf(first), file: K3S_REGISTRIES })
  }
  return { client: 'k3s', agents: AGENTS, routes, wrongs, notes: [] }
}
