import type { TomlTable } from 'smol-toml'
import { ConfigError, flagProblem, type Problem } from '../../config/problem.ts'
import type { Namespace } from '../../oci/namespace.ts'
import { isContainersLocation, pathHostOf } from '../../oci/path-host.ts'
import { certsNotes, planCertsDirectory } from './certs-directory.ts'
import type { HostFiles, Plan, PlannedFile, Wish } from './client.ts'
import { basicText, namedRegistries } from './client.ts'
import { appendToml, parseToml, quoted, stringOf, tablesOf } from './toml.ts'

const REGISTRIES_CONF = '/etc/containers/registries.conf'
export const REGISTRIES_CONF_D = '/etc/containers/registries.conf.d'
const DROP_IN = `${REGISTRIES_CONF_D}/50-entrepot.conf`

const CERTS = '/etc/containers/certs.d'
const PODMAN_AUTH = '/root/.config/containers/auth.json'
const CRIO_AUTH = '/etc/crio/entrepot-auth.json'
const CRIO_DROP_IN = '/etc/crio/crio.conf.d/50-entrepot.conf'
const CRIO_CONF = `[crio.image]\nglobal_auth_file = "${CRIO_AUTH}"\n`

/** Podman, Skopeo and Buildah: a drop-in of `registries.conf`, with one block for each registry. */
export async function planPodman(wish: Wish, files: HostFiles): Promise<Plan> {
  const login = await planAuth(wish, files, PODMAN_AUTH)
  const note = `Podman of root reads ${PODMAN_AUTH}; every other user logs in with \`podman login ${wish.mirror.authority}\`.`
  return {
    files: [await planDropIn(wish, files), ...login, ...(await planCertsDirectory(wish, files, CERTS))],
    notes: notesFor(wish, wish.login === undefined ? [] : [note]),
  }
}

/** CRI-O reads the same files through the same library. */
export async function planCrio(wish: Wish, files: HostFiles): Promise<Plan> {
  const reload = 'CRI-O reads the file again after `systemctl reload crio`.'
  const login = await planAuth(wish, files, CRIO_AUTH)
  const setting = wish.login === undefined ? [] : [await planText(files, CRIO_DROP_IN, CRIO_CONF), ...login]
  return {
    files: [await planDropIn(wish, files), ...setting, ...(await planCertsDirectory(wish, files, CERTS))],
    notes: notesFor(wish, [reload]),
  }
}

function notesFor(wish: Wish, notes: readonly string[]): readonly string[] {
  const { registries } = wish
  return [
    ...notes,
    ...(registries === 'all'
      ? [
          'This format cannot express "every registry": the file lists the well-known public ones. Add others with --namespace.',
        ]
      : []),
    ...certsNotes(wish, CERTS),
  ]
}

/** Plans the entry of the mirror in an `auth.json`: the only login that this library sends to a mirror. */
async function planAuth(
  { mirror, login }: Wish,
  files: HostFiles,
  path: string,
): Promise<readonly PlannedFile[]> {
  if (login === undefined) return []
  const before = await files.read(path)
  const parsed = parseAuth(before)
  const entry = { [mirror.authority]: { auth: basicText(login) } }
  const after = jsonText({ ...parsed, auths: { ...parsed?.auths, ...entry } })
  if (parsed === undefined)
    return [{ path, before, after, isSecret: true, refusal: 'it is not an auth.json' }]
  const isThere = parsed.auths?.[mirror.authority]?.auth === basicText(login)
  return [{ path, before, after: isThere ? (before ?? after) : after, isSecret: true }]
}

interface AuthFile {
  readonly auths?: Readonly<Record<string, { readonly auth?: string }>>
}

/** `undefined` if the text is not an `auth.json`; a missing file is an empty one. */
function parseAuth(text: string | undefined): AuthFile | undefined {
  try {
    const value: unknown = JSON.parse(text === undefined || text.trim() === '' ? '{}' : text)
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
    return isObject ? value : undefined
  } catch {
    return undefined
  }
}

function jsonText(value: object): string {
  return `${JSON.stringify(value, undefined, 2)}\n`
}

/** A file of ours, which is not shared with other settings. */
async function planText(files: HostFiles, path: string, after: string): Promise<PlannedFile> {
  return { path, before: await files.read(path), after }
}

/** A `[[registry]]` block and its file. */
export interface RegistryBlock {
  readonly file: string
  readonly block: TomlTable
}

/** The `[[registry]]` blocks of this machine by registry. For duplicates the later one wins. */
export async function registryBlocks(files: HostFiles): Promise<ReadonlyMap<string, RegistryBlock>> {
  const names = await files.list(REGISTRIES_CONF_D)
  const dropIns = names.filter(name => name.endsWith('.conf')).map(name => `${REGISTRIES_CONF_D}/${name}`)
  const blocks = new Map<string, RegistryBlock>()
  for (const file of [REGISTRIES_CONF, ...dropIns]) {
    const parsed = parseToml((await files.read(file)) ?? '')
    for (const block of tablesOf(parsed?.['registry'])) {
      const name = stringOf(block['prefix']) ?? stringOf(block['location'])
      if (name !== undefined) blocks.set(name, { file, block })
    }
  }
  return blocks
}

async function planDropIn(wish: Wish, files: HostFiles): Promise<PlannedFile> {
  const path = DROP_IN
  const wanted = wantedBlocks(wish)
  const before = await files.read(path)
  const present = await registryBlocks(files)
  const missing: WantedBlock[] = []
  const contradictions: string[] = []
  for (const block of wanted) {
    const found = present.get(block.name)
    if (found === undefined) missing.push(block)
    else if (firstMirror(found.block) !== block.location)
      contradictions.push(`${found.file} has another block for ${block.name}`)
  }
  const whole = wanted.map(blockText).join('\n')
  if (contradictions.length > 0) return { path, before, after: whole, refusal: contradictions.join('; ') }
  if (missing.length === 0) return { path, before, after: before ?? '' }
  const after = appendToml(before, missing.map(blockText).join('\n'))
  return after === undefined
    ? { path, before, after: whole, refusal: 'it is not valid TOML' }
    : { path, before, after }
}

/** One `[[registry]]` block to write. */
export interface WantedBlock {
  readonly name: Namespace
  /** Location of its mirror. */
  readonly location: string
  readonly isInsecure: boolean
}

/**
 * The blocks for the registries of a wish. Throws a {@link ConfigError} for a location that containers/image
 * cannot parse: it fails every pull of that registry, without falling back to the registry itself.
 */
export function wantedBlocks(wish: Wish): readonly WantedBlock[] {
  const { authority, scheme, url } = wish.mirror
  const problems: Problem[] = []
  if (!isContainersLocation(authority))
    problems.push(
      flagProblem(
        'mirror',
        `${url} cannot be the address here`,
        'Podman and CRI-O need a host name or an IPv4 address',
      ),
    )
  const blocks: WantedBlock[] = []
  for (const name of namedRegistries(wish)) {
    const host = pathHostOf(name)
    if (host === undefined)
      problems.push(
        flagProblem(
          'namespace',
          `${name} cannot be part of a path`,
          'Podman and CRI-O name the registry in the path of the mirror',
        ),
      )
    else blocks.push({ name, location: `${authority}/${host}`, isInsecure: scheme === 'http' })
  }
  if (problems.length > 0) throw new ConfigError(problems)
  return blocks
}

function firstMirror(block: TomlTable): string | undefined {
  return stringOf(tablesOf(block['mirror'])[0]?.['location'])
}

/** The block as TOML. */
export function blockText({ name, location, isInsecure }: WantedBlock): string {
  return `[[registry]]
prefix = ${quoted(name)}
location = ${quoted(name)}

[[registry.mirror]]
location = ${quoted(location)}
${isInsecure ? 'insecure = true\n' : ''}`
}
