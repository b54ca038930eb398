import type { TomlTable } from 'smol-toml'
import { DOCKER_HUB, DOCKER_HUB_HOST, type Namespace } from '../../oci/namespace.ts'
import { basicText, type HostFiles, type PlannedFile, type Wish } from './client.ts'
import { appendToml, parseToml, quoted, stringOf, stringsOf, tableAt } from './toml.ts'

/** Directory name for every registry without a directory of its own. */
export const EVERY_REGISTRY = '_default'

/** Plans the `hosts.toml` files below a directory: one for all registries, or one for each. */
export async function planHostsFiles(
  wish: Wish,
  files: HostFiles,
  directory: string,
): Promise<readonly PlannedFile[]> {
  const names = wish.registries === 'all' ? [EVERY_REGISTRY] : wish.registries
  return await Promise.all(
    names.map(async name => await planHostsFile(wish, files, `${directory}/${name}/hosts.toml`)),
  )
}

async function planHostsFile(wish: Wish, files: HostFiles, path: string): Promise<PlannedFile> {
  const before = await files.read(path)
  const host = hostTable(wish)
  const name = path.split('/').at(-2) ?? ''
  const isSecret = wish.login !== undefined
  if (before === undefined) return { path, before, after: `${serverLine(name)}${host}`, isSecret }
  const hosts = tableAt(parseToml(before) ?? {}, 'host') ?? {}
  const capabilities = stringsOf(tableAt(hosts, wish.mirror.url)?.['capabilities'])
  const isFirst = Object.keys(hosts)[0] === wish.mirror.url
  const isComplete = isFirst && sendsWhatIsWished(tableAt(hosts, wish.mirror.url) ?? {}, wish)
  if (isComplete && ['pull', 'resolve'].every(capability => capabilities.includes(capability))) {
    return { path, before, after: before }
  }
  const after = Object.keys(hosts).length === 0 ? appendToml(before, host) : undefined
  if (after !== undefined) return { path, before, after, isSecret }
  return {
    path,
    before,
    after: `${serverLine(name)}${host}`,
    refusal: 'it names other hosts or other credentials, or is not valid TOML',
  }
}

/** True if the table of the mirror has the wished credentials, or none are wished. */
function sendsWhatIsWished(table: TomlTable, { login, certificate }: Wish): boolean {
  const header = stringOf(tableAt(table, 'header')?.['Authorization'])
  const isLogin = login === undefined || header === `Basic ${basicText(login)}`
  return isLogin && (certificate === undefined || table['client'] !== undefined)
}

/** The table of the mirror in a `hosts.toml`. */
export function hostTable({ mirror, caFile, certificate, login }: Wish): string {
  const name = `host.${quoted(mirror.url)}`
  const ca = caFile === undefined ? '' : `  ca = ${quoted(caFile)}\n`
  const client =
    certificate === undefined
      ? ''
      : `  client = [[${quoted(certificate.certFile)}, ${quoted(certificate.keyFile)}]]\n`
  const header =
    login === undefined
      ? ''
      : `  [${name}.header]\n    Authorization = ${quoted(`Basic ${basicText(login)}`)}\n`
  return `[${name}]\n  capabilities = ["pull", "resolve"]\n${ca}${client}${header}`
}

/**
 * The line with the registry's server, which is used when the mirror fails. Without the line it is the
 * registry's name.
 */
export function serverLine(name: string): string {
  if (name === EVERY_REGISTRY || !/^[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z][a-z0-9-]*(?::[0-9]+)?$/.test(name))
    return ''
  const host = (name as Namespace) === DOCKER_HUB ? DOCKER_HUB_HOST : name
  return `server = ${quoted(`https://${host}`)}\n\n`
}
