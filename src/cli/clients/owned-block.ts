import { isDeepStrictEqual } from 'node:util'
import type { TomlTable } from 'smol-toml'
import { parseToml, tableAt } from './toml.ts'

/** What is to be between our marks in a file, and which host it must come before. */
export interface OwnedBlock {
  /** Lines of tables, each with its end. */
  readonly tables: string
  /** Lines before the tables, for a file of our own. */
  readonly head: string
  /** Text of a file of our own, if it is more than the head and the tables. */
  readonly whole?: string | undefined
  /** Key of our table in `host`. */
  readonly host: string
  /** True if it holds a password: only the owner of the file may read it. */
  readonly isSecret?: boolean
}

/** What has to happen to a file. */
export type OwnedChange =
  | { readonly kind: 'none' }
  | { readonly kind: 'write'; readonly text: string }
  /** The file is not there, and neither is its directory if that is to be made. */
  | { readonly kind: 'make'; readonly text: string }
  | { readonly kind: 'remove'; readonly made: Made }
  | { readonly kind: 'refused'; readonly reason: string }

/** What of a file was made with our block: the file, or its directory too. */
export type Made = 'file' | 'directory'

const BEGIN = '# >>> entrepot node-config'
const END = '# <<< entrepot node-config\n'
const BREAK = ', after a line break of its own'
const MARK =
  /^# >>> entrepot node-config(?:, which made this (file|directory)|(, after a line break of its own))?\n/m

/**
 * Plans the change that brings our block into a file, or takes it out. Whatever else is in the file stays
 * byte for byte: taking a block out restores the text before it was put in, whoever changed the rest
 * meanwhile.
 */
export function planOwned(
  current: string | undefined,
  wanted: OwnedBlock | undefined,
  making: Made,
): OwnedChange {
  if (current === undefined)
    return wanted === undefined ? NONE : { kind: 'make', text: ownText(wanted, making) }
  const split = splitOwned(current)
  if (split === undefined)
    return { kind: 'refused', reason: 'the marks of node-config in it were edited; remove its lines by hand' }
  const { foreign, made } = split
  const isOurs = made !== undefined && foreign === ''
  if (wanted === undefined) {
    if (isOurs) return { kind: 'remove', made }
    return changed(current, foreign)
  }
  if (isOurs) return changed(current, ownText(wanted, made))
  const placed = place(foreign, wanted)
  return 'reason' in placed ? { kind: 'refused', ...placed } : changed(current, placed.text)
}

const NONE: OwnedChange = { kind: 'none' }

function changed(current: string, text: string): OwnedChange {
  return current === text ? NONE : { kind: 'write', text }
}

function ownText({ head, tables, whole }: OwnedBlock, made: Made): string {
  return `${BEGIN}, which made this ${made}\n${whole ?? `${head}${tables}`}${END}`
}

/** What is in a text besides our block; `undefined` if the marks of it were edited. */
export function foreignPart(text: string): string | undefined {
  return splitOwned(text)?.foreign
}

/**
 * A block whose own file has the hosts of another file too, after ours: `_default`, which a registry with a
 * file of its own does not get any more.
 */
export function withHostsOf(foreign: string, block: OwnedBlock): OwnedBlock {
  const parsed = parseToml(foreign)
  if (parsed === undefined || tableAt(parsed, 'host') === undefined) return block
  const placed = place(foreign, block, tables => tables)
  if (!('text' in placed)) return block
  const text = placed.text.endsWith('\n') ? placed.text : `${placed.text}\n`
  return { ...block, whole: parsed['server'] === undefined ? `${block.head}${text}` : text }
}

/** The text without our block; `undefined` if the marks are not a pair. */
function splitOwned(text: string): { readonly foreign: string; readonly made: Made | undefined } | undefined {
  const begins = text.split(/^# >>> entrepot node-config/m).length - 1
  const ends = text.split(/^# <<< entrepot node-config$/m).length - 1
  if (begins === 0 && ends === 0) return { foreign: text, made: undefined }
  const mark = MARK.exec(text)
  const end = text.indexOf(END)
  if (begins !== 1 || ends !== 1 || mark === null || end < mark.index) return undefined
  const [, made, lineBreak] = mark
  const start = lineBreak === undefined ? mark.index : mark.index - 1
  if (start < 0) return undefined
  const foreign = text.slice(0, start) + text.slice(end + END.length)
  return { foreign, made: made === 'file' || made === 'directory' ? made : undefined }
}

type Placed = { readonly text: string } | { readonly reason: string }

/** Puts the block before the first table, so that its host comes first. */
function place(foreign: string, { tables, host }: OwnedBlock, mark = marked): Placed {
  const before = parseToml(foreign)
  if (before === undefined) return { reason: 'it is not valid TOML' }
  if (tableAt(before, 'host', host) !== undefined)
    return { reason: `somebody else has written ${host} into it already` }
  for (const index of placesFor(foreign)) {
    const needsBreak = index > 0 && foreign[index - 1] !== '\n'
    const block = mark(tables, needsBreak)
    const text = `${foreign.slice(0, index)}${needsBreak ? '\n' : ''}${block}${foreign.slice(index)}`
    if (isOnlyAdded(before, parseToml(text), host)) return { text }
  }
  return { reason: 'no host can be put before its own' }
}

function marked(tables: string, hasBreak: boolean): string {
  return `${BEGIN}${hasBreak ? BREAK : ''}\n${tables}${END}`
}

/** Starts of lines that may open the first table, with the comments above it, and the end of the text. */
function* placesFor(text: string): Generator<number> {
  for (const match of text.matchAll(/^(?:[ \t]*#.*\r?\n)*[ \t]*\[/gm)) yield match.index
  yield text.length
}

/** True if the text means what it meant before, with our host before all others. */
function isOnlyAdded(before: TomlTable, after: TomlTable | undefined, host: string): boolean {
  const { [host]: ours, ...others } = tableAt(after ?? {}, 'host') ?? {}
  if (after === undefined || ours === undefined) return false
  const [first] = Object.keys(tableAt(after, 'host') ?? {})
  const { host: hostsBefore = {}, ...restBefore } = before
  const { host: hostsAfter = {}, ...rest } = after
  return (
    first === host &&
    hostsAfter !== undefined &&
    isDeepStrictEqual({ ...others }, { ...(hostsBefore as TomlTable) }) &&
    isDeepStrictEqual({ ...rest }, { ...restBefore })
  )
}
