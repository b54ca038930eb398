import { type RootedFiles, whyUntouched } from './host-files.ts'
import { EVERY_REGISTRY } from './hosts-toml.ts'
import { foreignPart, type OwnedBlock, type OwnedChange, planOwned, withHostsOf } from './owned-block.ts'

/** What became of one file. */
export interface OwnedOutcome {
  readonly path: string
  readonly result: 'same' | 'written' | 'removed' | 'refused'
  /** Why it was not changed. */
  readonly reason?: string
}

const HOSTS = 'hosts.toml'
const ATTEMPTS = 3

/**
 * Brings the blocks of the wanted registries into the `hosts.toml` files of some directories, which the
 * client searches in this order, and takes all other blocks of ours out of them. A registry that has a
 * directory already keeps the first one that it has.
 */
export async function applyOwnedHosts(
  files: RootedFiles,
  directories: readonly string[],
  wanted: ReadonlyMap<string, OwnedBlock>,
): Promise<readonly OwnedOutcome[]> {
  const hidden = await hiddenDefault(files, directories)
  const listed = await Promise.all(directories.map(async directory => await files.list(directory)))
  const outcomes: OwnedOutcome[] = []
  for (const [index, directory] of directories.entries()) {
    const present = new Set((listed[index] ?? []).filter(name => !name.startsWith('.')))
    for (const name of new Set([...present, ...wanted.keys()])) {
      const home = Math.max(
        0,
        listed.findIndex(names => names.includes(name)),
      )
      const block = home === index ? wanted.get(name) : undefined
      const place = { directory, name, block: block === undefined ? block : beside(name, block, hidden) }
      outcomes.push(await applyOne(files, place).catch((error: unknown) => failed(place, error)))
    }
  }
  return outcomes.filter(({ result }) => result !== 'same')
}

/** The hosts that somebody else wants for registries without a file of their own; empty if none. */
async function hiddenDefault(files: RootedFiles, directories: readonly string[]): Promise<string> {
  for (const directory of directories) {
    const { text } = await textOf(files, `${directory}/${EVERY_REGISTRY}/${HOSTS}`).catch(() => NO_TEXT)
    if (text !== undefined) return foreignPart(text) ?? ''
  }
  return ''
}

const NO_TEXT = { text: undefined }

function beside(name: string, block: OwnedBlock, hidden: string): OwnedBlock {
  return name === EVERY_REGISTRY ? block : withHostsOf(hidden, block)
}

/** Removes what interrupted runs have left in the directories and below them. */
export async function sweepOwned(
  files: RootedFiles,
  directories: readonly string[],
  nowMs: number,
): Promise<void> {
  for (const directory of directories) {
    await files.sweep(directory, nowMs, HOSTS)
    for (const name of await files.list(directory)) {
      const path = `${directory}/${name}`
      if (!name.startsWith('.')) await files.sweep(path, nowMs)
    }
  }
}

interface Place {
  readonly directory: string
  readonly name: string
  readonly block: OwnedBlock | undefined
}

/**
 * Changes one file. If it changes under our hands, its new text is planned for: a second node-config wants
 * the same, and what somebody else wrote must not be lost.
 */
async function applyOne(files: RootedFiles, place: Place): Promise<OwnedOutcome> {
  const { directory, name } = place
  const path = `${directory}/${name}/${HOSTS}`
  for (let attempt = 1; ; attempt += 1) {
    const { text: before, isText } = await textOf(files, path)
    if (!isText) return refused(path, place, 'it is not UTF-8 text')
    const making = (await files.list(directory)).includes(name) ? 'file' : 'directory'
    const change = planOwned(before, place.block, making)
    if (change.kind === 'none') return { path, result: 'same' }
    if (change.kind === 'refused') return refused(path, place, change.reason)
    const isSame = (await textOf(files, path)).text === before
    if (isSame && (await perform(files, { path, place, making }, change)))
      return { path, result: change.kind === 'remove' ? 'removed' : 'written' }
    if (attempt === ATTEMPTS) return { path, result: 'refused', reason: 'somebody else is changing it' }
  }
}

function failed({ directory, name }: Place, error: unknown): OwnedOutcome {
  const reason = whyUntouched(error)
  if (reason === undefined) throw error
  return { path: `${directory}/${name}/${HOSTS}`, result: 'refused', reason }
}

/** A file that we want nothing of is none of our business. */
function refused(path: string, { block }: Place, reason: string): OwnedOutcome {
  const isOurs = block !== undefined || reason.includes('marks')
  return isOurs ? { path, result: 'refused', reason } : { path, result: 'same' }
}

/** False if another process was first. */
async function perform(
  files: RootedFiles,
  { path, place, making }: { readonly path: string; readonly place: Place; readonly making: string },
  change: Extract<OwnedChange, { kind: 'write' | 'make' | 'remove' }>,
): Promise<boolean> {
  const directory = `${place.directory}/${place.name}`
  if (change.kind === 'remove') {
    if (change.made === 'directory') await files.removeDirectory(directory, HOSTS)
    else await files.remove(path)
    return true
  }
  const isSecret = place.block?.isSecret === true
  if (change.kind === 'make' && making === 'directory')
    return await files.makeDirectory(directory, { name: HOSTS, text: change.text, isSecret })
  await files.write(path, change.text, isSecret)
  return true
}

/**
 * Brings a file of our own to a text, or takes it away. A file of this name that is not marked is somebody
 * else's.
 */
export async function applyOwnedFile(
  files: RootedFiles,
  path: string,
  text: string | undefined,
): Promise<readonly OwnedOutcome[]> {
  const { text: before, isText } = await textOf(files, path)
  if (!isText) return [{ path, result: 'refused', reason: 'it is not UTF-8 text' }]
  const block = text === undefined ? undefined : { tables: text, head: '', host: '' }
  const change = planOwned(before, block, 'file')
  if (change.kind === 'none') return []
  if (change.kind === 'refused')
    return [{ path, result: 'refused', reason: 'it has something else than node-config has written' }]
  if (change.kind === 'remove') await files.remove(path)
  else await files.write(path, change.text)
  return [{ path, result: change.kind === 'remove' ? 'removed' : 'written' }]
}

/** The text of a file; `undefined` if it does not exist, and `isText` false if it is none. */
async function textOf(
  files: RootedFiles,
  path: string,
): Promise<{ readonly text: string | undefined; readonly isText: boolean }> {
  const bytes = await files.readBytes(path)
  if (bytes === undefined) return { text: undefined, isText: true }
  try {
    const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
    return { text: utf8.decode(bytes), isText: true }
  } catch {
    return { text: undefined, isText: false }
  }
}
