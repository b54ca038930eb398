import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  visit,
} from 'yaml'
import type { Problem } from '../problem.ts'

/** An upstream: plain values by key, and the line that each key is on. Keys of any name are safe. */
export interface YamlEntry {
  /** Its place for messages, such as `[0]` or `upstreams[0]`. */
  readonly path: string
  /** The line that the entry begins on. */
  readonly line: number
  readonly values: ReadonlyMap<string, YamlValue>
}

/** A value and the line of its key; `undefined` for null. */
interface YamlValue {
  readonly line: number
  readonly value: unknown
}

/** One named section of a file, as plain values. Its maps have no prototype. */
export interface YamlSection {
  readonly name: string
  readonly value: unknown
  /** The line of a value, or of the nearest value around it that has one. */
  lineOf(path: readonly PropertyKey[]): number
}

/** Contents and problems of a file. A problem in one entry or section does not remove the others. */
export interface YamlFile {
  readonly entries: readonly YamlEntry[]
  readonly sections: ReadonlyMap<string, YamlSection>
  readonly problems: readonly Problem[]
}

/** The section whose entries may also be the whole file, as in oci-registry. */
const UPSTREAMS = 'upstreams'

const ALIASES_MAX = 100
const TEXT_LENGTH_MAX = 1024 * 1024
const DEPTH_MAX = 16

/** Our messages for YAML errors: those of the parser may repeat the text, and with it a password. */
const SYNTAX: ReadonlyMap<string, string> = new Map([
  ['BAD_DQ_ESCAPE', 'has an escape sequence that is invalid in double quotes; use single quotes'],
  ['BAD_INDENT', 'is not indented like its neighbours'],
  ['BAD_SCALAR_START', 'begins with a character that YAML reserves; put the value in quotes'],
  ['BLOCK_AS_IMPLICIT_KEY', 'has a second colon on the line; put the value in quotes'],
  ['MISSING_CHAR', 'lacks a quote, bracket, colon or dash'],
  ['MULTIPLE_DOCS', 'begins a second document (---); one is expected'],
  ['TAB_AS_INDENT', 'is indented by a tab; use spaces'],
  ['TAG_RESOLVE_FAILED', 'has an unknown tag (!); leave it out'],
])

/**
 * Reads YAML 1.2 text that must be a list of upstreams, or a map of sections, one of which is that list.
 * Empty text is the empty list.
 */
export function readYamlFile(text: string, file: string): YamlFile {
  const reader = new Reader(file)
  if (text.length > TEXT_LENGTH_MAX) reader.refuse(undefined, '', 'is larger than 1 MiB', undefined)
  else reader.read(text)
  return { entries: reader.entries, sections: reader.sections, problems: reader.problems }
}

/** Reads one text, and collects its entries, sections and problems. */
class Reader {
  readonly entries: YamlEntry[] = []
  readonly sections = new Map<string, YamlSection>()
  readonly problems: Problem[] = []
  readonly #file: string
  readonly #lines = new LineCounter()

  constructor(file: string) {
    this.#file = file
  }

  refuse(line: number | undefined, path: string, message: string, hint: string | undefined): void {
    this.problems.push({ origin: { kind: 'file', file: this.#file, line }, path, message, hint })
  }

  read(text: string): void {
    const document = this.#parse(text)
    if (document === undefined) return
    const troubles = [...document.errors, ...document.warnings]
    const refused = new Set<number>()
    for (const trouble of troubles) {
      const line = this.#lines.linePos(trouble.pos[0]).line
      if (refused.has(line)) continue
      refused.add(line)
      const isTabbed = /^ *\t/.test(text.split('\n', line).at(-1) ?? '')
      const code = isTabbed ? 'TAB_AS_INDENT' : trouble.code
      this.refuse(line, '', SYNTAX.get(code) ?? 'is not valid YAML', undefined)
    }
    if (troubles.some(trouble => trouble.code !== 'TAG_RESOLVE_FAILED')) return
    if (countAliases(document) > ALIASES_MAX) {
      this.refuse(undefined, '', `has more than ${ALIASES_MAX} aliases`, 'write the values out')
      return
    }
    this.#readRoot(document)
  }

  /** Catches the stack overflow of the parser on deep nesting. */
  #parse(text: string): Document.Parsed | undefined {
    try {
      const options = { prettyErrors: false, uniqueKeys: false, lineCounter: this.#lines } as const
      return parseDocument(text.replace(/^\u{feff}/u, ''), { ...options, logLevel: 'error', version: '1.2' })
    } catch {
      this.refuse(undefined, '', 'is not valid YAML: it is nested too deeply', undefined)
      return undefined
    }
  }

  #readRoot(document: Document.Parsed): void {
    const root: unknown = document.contents
    if (root === null || (isScalar(root) && root.value === null)) return
    if (isSeq(root)) this.#readEntries(document, root.items, '')
    else if (isMap(root) && !root.has('namespace')) this.#readSections(document, root.items)
    else
      this.refuse(this.#line(root), '', 'must be a list of upstreams', 'begin each one with "- namespace:"')
  }

  #readSections(document: Document.Parsed, pairs: readonly Pair[]): void {
    for (const { key, line, node } of this.#pairs(document, pairs, { line: 1, path: '' })) {
      if (key !== UPSTREAMS) this.#readSection(key, line, node)
      else if (isSeq(node)) this.#readEntries(document, node.items, UPSTREAMS)
      else if (node !== undefined)
        this.refuse(line, UPSTREAMS, 'must be a list of upstreams', 'begin each one with "- namespace:"')
    }
  }

  #readSection(name: string, line: number, node: unknown): void {
    const lines = new Map<string, number>()
    const value = this.#tree(node, [name], lines)
    const lineOf = (path: readonly PropertyKey[]): number => {
      for (let end = path.length; end > 0; end -= 1) {
        const found = lines.get(lineKey(path.slice(0, end)))
        if (found !== undefined) return found
      }
      return line
    }
    this.sections.set(name, { name, value, lineOf })
  }

  /** A value of a section as plain data. `path` begins with the section's name. */
  #tree(node: unknown, path: readonly PropertyKey[], lines: Map<string, number>): unknown {
    const own = lineKey(path.slice(1))
    const line = lines.get(own) ?? this.#line(node) ?? 1
    lines.set(own, line)
    if (node === null || node === undefined) return undefined
    if (isScalar(node)) return node.value ?? undefined
    if (path.length > DEPTH_MAX) {
      this.refuse(line, pathText(path), 'is nested too deeply', undefined)
      return undefined
    }
    if (isSeq(node)) return node.items.map((item, index) => this.#tree(item, [...path, index], lines))
    if (!isMap(node)) {
      this.refuse(line, pathText(path), 'refers to an anchor (*)', 'write the value out')
      return undefined
    }
    const map: Record<string, unknown> = Object.create(null) as Record<string, unknown>
    for (const pair of this.#pairs(undefined, node.items, { line, path: pathText(path) })) {
      lines.set(lineKey([...path.slice(1), pair.key]), pair.line)
      map[pair.key] = this.#tree(pair.node, [...path, pair.key], lines)
    }
    return map
  }

  #readEntries(document: Document.Parsed, items: readonly unknown[], section: string): void {
    for (const [index, item] of items.entries()) this.#readEntry(document, item, `${section}[${index}]`)
  }

  #readEntry(document: Document.Parsed, item: unknown, path: string): void {
    const map = resolved(document, item)
    const line = this.#line(item) ?? this.#line(map) ?? 1
    if (!isMap(map)) {
      this.refuse(line, path, 'must be a map of keys and values', 'such as namespace: example.com')
      return
    }
    const values = new Map<string, YamlValue>()
    for (const { key, line: keyLine, node } of this.#pairs(document, map.items, { line, path })) {
      const value = plainValue(document, node)
      if (value === UNRESOLVED)
        this.refuse(keyLine, keyPath(path, key), 'refers to an anchor (*) that does not exist', undefined)
      values.set(key, { line: keyLine, value: value === UNRESOLVED ? undefined : value })
    }
    this.entries.push({ path, line, values })
  }

  /** The pairs of a map by key, each key once. Aliases of keys are followed where a document is given. */
  #pairs(
    document: Document.Parsed | undefined,
    pairs: readonly Pair[],
    at: { readonly line: number; readonly path: string },
  ): { readonly key: string; readonly line: number; readonly node: unknown }[] {
    const seen = new Map<string, number>()
    return pairs.flatMap(pair => {
      const line = this.#line(pair.key) ?? at.line
      const key = document === undefined ? pair.key : resolved(document, pair.key)
      if (!isScalar(key) || typeof key.value !== 'string') {
        this.refuse(line, at.path, 'has a key that is not text', undefined)
        return []
      }
      const first = seen.get(key.value)
      if (first !== undefined) {
        this.refuse(line, keyPath(at.path, key.value), `is written already on line ${first}`, 'keep one')
        return []
      }
      seen.set(key.value, line)
      return [{ key: key.value, line, node: pair.value ?? undefined }]
    })
  }

  #line(node: unknown): number | undefined {
    const offset = (node as Node | null | undefined)?.range?.[0]
    return offset === undefined ? undefined : this.#lines.linePos(offset).line
  }
}

/** The path of a key for messages, without a key that may be a value, and thus a secret. */
export function keyPath(path: string, key: string): string {
  if (!isShowable(key)) return path
  return path === '' ? key : `${path}.${key}`
}

/** True if a key may be shown: generated secrets do not consist only of letters, underscores and hyphens. */
export function isShowable(key: string): boolean {
  return /^[A-Za-z_-]{1,40}$/.test(key)
}

/** A path as it is shown in messages, such as `hosted[0].names`. */
export function pathText(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (text, part) => (typeof part === 'number' ? `${text}[${part}]` : keyPath(text, String(part))),
    '',
  )
}

function lineKey(path: readonly PropertyKey[]): string {
  return JSON.stringify(path)
}

const UNRESOLVED = Symbol('unresolved')

/** Scalars and flat lists as plain values. Deeper values become `{}`, so aliases cannot multiply them. */
function plainValue(document: Document.Parsed, node: unknown): unknown {
  const value = resolved(document, node)
  if (value === undefined) return isAlias(node) ? UNRESOLVED : undefined
  if (value === null) return undefined
  if (isScalar(value)) return value.value ?? undefined
  if (isMap(value)) return {}
  if (!isSeq(value)) return undefined
  return value.items.map(item => {
    const inner = resolved(document, item)
    return isScalar(inner) ? inner.value : {}
  })
}

function resolved(document: Document.Parsed, node: unknown): unknown {
  return isAlias(node) ? node.resolve(document) : node
}

function countAliases(document: Document.Parsed): number {
  let count = 0
  visit(document, {
    Alias: () => {
      count += 1
    },
  })
  return count
}
