import { dirname } from 'node:path'
import type { Namespace } from '../../oci/namespace.ts'
import type { Wish } from '../clients/client.ts'
import { blockText, REGISTRIES_CONF_D, registryBlocks, wantedBlocks } from '../clients/containers-image.ts'
import { type RootedFiles, whyUntouched } from '../clients/host-files.ts'
import { EVERY_REGISTRY, hostTable, serverLine } from '../clients/hosts-toml.ts'
import { findRuntimes, type NodeRuntime, type NodeRuntimeName } from '../clients/node-runtimes.ts'
import type { OwnedBlock } from '../clients/owned-block.ts'
import { applyOwnedFile, applyOwnedHosts, type OwnedOutcome, sweepOwned } from '../clients/owned-hosts.ts'

export interface NodeWish extends Wish {
  readonly registries: readonly Namespace[]
  /** True if the mirror is for every other registry too. */
  readonly isForAll: boolean
  readonly runtimes: readonly NodeRuntimeName[]
  readonly containerdVersion: string | undefined
  /** Write the drop-in that makes containerd read the directories. */
  readonly writesImport: boolean
}

/**
 * `in`: the mirror is in the configuration. `out`: it is not, since it does not answer now. `gone`: nothing
 * of ours is left.
 */
export type Presence = 'in' | 'out' | 'gone'

/** What was done to a node. */
export interface NodeResult {
  readonly outcomes: readonly OwnedOutcome[]
  /** Facts for the operator. */
  readonly notes: readonly string[]
  /** Runtimes for which nothing could be written. */
  readonly problems: readonly string[]
}

/**
 * Brings the mirror into the configuration of every runtime of a node, or takes it out of all. A runtime
 * whose configuration cannot be read is left as it is, and reported.
 */
export async function writeNode(
  files: RootedFiles,
  wish: NodeWish,
  presence: Presence,
  nowMs: number,
): Promise<NodeResult> {
  const isWanted = presence === 'in'
  const outcomes: OwnedOutcome[] = []
  const notes: string[] = []
  const problems: string[] = []
  const { runtimes: named, containerdVersion } = wish
  const runtimes = await findRuntimes(files, { named, containerdVersion })
  if (runtimes.length === 0 && isWanted)
    problems.push(`no runtime is found below ${files.locate('/')}: mount the node's root there, or name one`)
  for (const runtime of runtimes) {
    if (isWanted && runtime.name === 'crio' && (wish.login ?? wish.certificate) !== undefined)
      notes.push('crio: the login and the client certificate are not written; `entrepot setup crio` does')
    if (isWanted) notes.push(...runtime.notes.map(note => `${runtime.name}: ${note}`))
    if (runtime.problem !== undefined) problems.push(`${runtime.name}: ${runtime.problem}`)
    try {
      outcomes.push(...(await writeRuntime(files, runtime, isWanted ? wish : undefined, nowMs)))
      // Without the drop-in, a containerd that restarts while the mirror is away would not read it later.
      const hasDropIn = wish.writesImport && presence !== 'gone'
      outcomes.push(...(await writeDropIn(files, runtime, { hasDropIn, nowMs })))
    } catch (error) {
      const reason = whyUntouched(error)
      if (reason === undefined) throw error
      problems.push(`${runtime.name}: ${reason}`)
    }
  }
  return { outcomes, notes, problems }
}

async function writeRuntime(
  files: RootedFiles,
  { name, directories }: NodeRuntime,
  wish: NodeWish | undefined,
  nowMs: number,
): Promise<readonly OwnedOutcome[]> {
  if (name === 'crio') {
    await files.sweep(REGISTRIES_CONF_D, nowMs)
    return await writeCrio(files, wish)
  }
  await sweepOwned(files, directories, nowMs)
  return await applyOwnedHosts(files, directories, wish === undefined ? new Map() : hostsBlocks(wish))
}

function hostsBlocks(wish: NodeWish): ReadonlyMap<string, OwnedBlock> {
  const names = [...wish.registries, ...(wish.isForAll ? [EVERY_REGISTRY] : [])]
  return new Map(names.map(name => [name, hostsBlock(wish, name)]))
}

function hostsBlock(wish: NodeWish, name: string): OwnedBlock {
  return {
    head: serverLine(name),
    tables: hostTable(wish),
    host: wish.mirror.url,
    isSecret: wish.login !== undefined,
  }
}

const CRIO_FILE = `${REGISTRIES_CONF_D}/60-entrepot-node-config.conf`

/**
 * A drop-in for CRI-O. A registry that has a block in another file keeps that: of two blocks CRI-O takes one,
 * and the mirrors of the other would be lost.
 */
async function writeCrio(files: RootedFiles, wish: NodeWish | undefined): Promise<readonly OwnedOutcome[]> {
  if (wish === undefined) return await applyOwnedFile(files, CRIO_FILE, undefined)
  const registries = wish.registries.length === 0 ? 'all' : wish.registries
  const present = await registryBlocks(files)
  const blocks = wantedBlocks({ ...wish, registries })
  const isFree = ({ name }: { readonly name: string }): boolean =>
    (present.get(name)?.file ?? CRIO_FILE) === CRIO_FILE
  const taken = blocks
    .filter(block => !isFree(block))
    .map(({ name }) => ({
      path: CRIO_FILE,
      result: 'refused' as const,
      reason: `${present.get(name)?.file} has another block for ${name}`,
    }))
  const text = blocks.filter(isFree).map(blockText).join('\n')
  const done = await applyOwnedFile(files, CRIO_FILE, text === '' ? undefined : text)
  return [...done, ...taken]
}

async function writeDropIn(
  files: RootedFiles,
  { dropIn }: NodeRuntime,
  { hasDropIn, nowMs }: { readonly hasDropIn: boolean; readonly nowMs: number },
): Promise<readonly OwnedOutcome[]> {
  if (dropIn === undefined) return []
  await files.sweep(dirname(dropIn.path), nowMs)
  return await applyOwnedFile(files, dropIn.path, hasDropIn ? dropIn.text : undefined)
}
