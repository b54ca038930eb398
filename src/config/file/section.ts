import type * as z from 'zod'
import { nearest } from '../../lib/words/nearest.ts'
import type { Problem, ValueOrigin } from '../problem.ts'
import { isShowable, keyPath, pathText, type YamlSection } from './yaml-file.ts'

/** A file, by the name that the operator gave and by its absolute path. */
export interface NamedFile {
  readonly name: string
  readonly path: string
}

/** A value in force, for display: its key, indented as in the file. Secrets are redacted. */
export interface ShownValue {
  readonly key: string
  readonly value: string
  readonly origin: ValueOrigin | undefined
}

/** A section that was read. `value` is the default wherever there are problems. */
export interface ReadSection<Value> {
  readonly value: Value
  readonly shown: readonly ShownValue[]
  readonly problems: readonly Problem[]
}

/** Checks a section by its schema; `undefined` with at least one problem if it does not fit. */
export function checkSection<Schema extends z.ZodType>(
  section: YamlSection,
  schema: Schema,
  file: NamedFile,
): { readonly value: z.output<Schema> | undefined; readonly problems: readonly Problem[] } {
  const result = schema.safeParse(section.value)
  if (result.success) return { value: result.data, problems: [] }
  const problems = result.error.issues.flatMap(issue => problemsOf(issue, schema, section, file))
  return { value: undefined, problems }
}

/** A problem at a value of a section. */
export function sectionProblem(
  section: Pick<YamlSection, 'name' | 'lineOf'>,
  file: NamedFile,
  path: readonly PropertyKey[],
  { message, hint }: Pick<Problem, 'message' | 'hint'>,
): Problem {
  const origin = { kind: 'file', file: file.name, line: section.lineOf(path) } as const
  return { origin, path: pathText([section.name, ...path]), message, hint }
}

function problemsOf(
  issue: z.core.$ZodIssue,
  schema: z.ZodType,
  section: YamlSection,
  file: NamedFile,
): readonly Problem[] {
  if (issue.code !== 'unrecognized_keys')
    return [sectionProblem(section, file, issue.path, explain(issue, valueAt(section.value, issue.path)))]
  const siblings = knownKeys(schema, issue.path)
  return issue.keys.map(key => {
    const meant = isShowable(key) ? nearest(key, siblings) : undefined
    const hint = meant === undefined ? undefined : `did you mean ${meant}?`
    const message = isShowable(key) ? 'is not a known key' : 'has an unknown key'
    const problem = sectionProblem(section, file, [...issue.path, key], { message, hint })
    return { ...problem, path: keyPath(pathText([section.name, ...issue.path]), key) }
  })
}

/** Keys that a schema knows at a path, for a hint. */
function knownKeys(schema: unknown, path: readonly PropertyKey[]): readonly string[] {
  let at: unknown = schema
  for (const part of path)
    at = typeof part === 'number' ? child(at, 'element') : child(child(at, 'shape'), part)
  const shape = child(at, 'shape')
  return typeof shape === 'object' && shape !== null ? Object.keys(shape) : []
}

/** A part of a schema's definition, of the schema inside `optional` where there is one. */
function child(schema: unknown, key: PropertyKey): unknown {
  const own = field(field(schema, 'def') ?? schema, key)
  const inner = own === undefined ? field(field(schema, 'def'), 'innerType') : undefined
  return inner === undefined ? own : child(inner, key)
}

function field(value: unknown, key: PropertyKey): unknown {
  const isObject = typeof value === 'object' && value !== null && Object.hasOwn(value, key)
  return isObject ? (value as Record<PropertyKey, unknown>)[key] : undefined
}

const PHRASES: ReadonlyMap<string, string> = new Map([
  ['boolean', 'true or false'],
  ['string', 'text'],
  ['number', 'a number'],
  ['int', 'a whole number'],
  ['array', 'a list'],
  ['object', 'a map of keys and values'],
  ['record', 'a map of keys and values'],
])

function explain(issue: z.core.$ZodIssue, value: unknown): Pick<Problem, 'message' | 'hint'> {
  if (issue.code === 'custom') {
    const hint: unknown = issue.params?.['hint']
    return { message: issue.message, hint: typeof hint === 'string' ? hint : undefined }
  }
  if (value === undefined) return { message: 'is missing', hint: undefined }
  if (issue.code === 'invalid_type')
    return { message: `must be ${PHRASES.get(issue.expected) ?? issue.expected}`, hint: undefined }
  if (issue.code === 'invalid_value')
    return { message: 'is not a known value', hint: `one of ${issue.values.map(String).join(', ')}` }
  if (issue.code === 'too_small') return { message: `must be at least ${issue.minimum}`, hint: undefined }
  if (issue.code === 'too_big') return { message: `must be at most ${issue.maximum}`, hint: undefined }
  return { message: 'is not valid', hint: undefined }
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((at, part) => field(at, part), value)
}
