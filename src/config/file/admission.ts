import { readFile } from 'node:fs/promises'
import * as z from 'zod'
import { parseConfiguredNamespace } from '../../oci/namespace.ts'
import {
  ADMISSION_MODES,
  type AdmissionRule,
  type AdmissionRules,
  orderRules,
} from '../../oci/rules/admission-rules.ts'
import { type ListedNames, parseListedNames } from '../../oci/rules/listed-names.ts'
import { ConfigError, type Problem } from '../problem.ts'
import { parsed, parsedOpenly } from './entry.ts'
import { checkSection, type NamedFile, type ReadSection, type ShownValue } from './section.ts'
import { readYamlFile, type YamlSection } from './yaml-file.ts'

const REASON_LENGTH_MAX = 200
const RULES_MAX = 1000

const NAMES = parsedOpenly(
  text => withText(text, parseListedNames(text)),
  'does not name images',
  'such as ghcr.io, docker.io/acme/, nginx, registry:5000/, docker.io/acme/app:v* or *.example.com/**',
)
const GLOB = parsedOpenly(
  text => (/^[a-z0-9*-]{1,63}$/.test(text) ? text : undefined),
  'is not a namespace of a cluster',
  'such as prod or team-*',
)
const REASON = parsed(
  text => (/^[^\p{Cc}]+$/u.test(text) && text.length <= REASON_LENGTH_MAX ? text : undefined),
  'is not a reason',
  `a line of at most ${REASON_LENGTH_MAX} characters`,
)
const ENTRY = z.preprocess(
  value => (typeof value === 'string' || Array.isArray(value) ? { names: value } : value),
  z.strictObject({
    names: z.preprocess(listed, z.array(NAMES).min(1)),
    namespaces: z.preprocess(listed, z.array(GLOB).min(1)).optional(),
    reason: REASON.optional(),
  }),
)
const ENTRIES = z.array(ENTRY).max(RULES_MAX).optional()

const ADMISSION = z.strictObject({
  mode: z.enum(ADMISSION_MODES).optional(),
  // Trow writes them with a capital letter.
  default: parsedOpenly(
    text => ['allow', 'deny'].find(word => word === text.toLowerCase()),
    'is not a verdict',
    'allow or deny',
  ),
  allow: ENTRIES,
  deny: ENTRIES,
  mirrors: z
    .array(parsedOpenly(parseConfiguredNamespace, 'is not a host', 'such as mirror.example.com:8443'))
    .optional(),
})

type Section = z.output<typeof ADMISSION>
type Entry = z.output<typeof ENTRY>

/** Reads the section `admission`: which images the Pods of a cluster may use. */
export function readAdmission(
  section: YamlSection | undefined,
  file: NamedFile,
): ReadSection<AdmissionRules | undefined> {
  if (section === undefined) return { value: undefined, shown: [], problems: [] }
  const { value, problems } = checkSection(section, ADMISSION, file)
  if (value === undefined) return { value: undefined, shown: [], problems }
  const rules = rulesOf(value)
  return { value: rules, shown: shownAdmission(rules, section, file), problems }
}

/**
 * Reads the section `admission` of a file, and nothing else of it: the gate of a cluster needs no files that
 * other sections name. Throws a {@link ConfigError} with every problem.
 */
export async function loadAdmission(file: NamedFile): Promise<AdmissionRules> {
  const refuse = (message: string, hint: string | undefined): Problem => ({
    origin: { kind: 'file', file: file.name, line: undefined },
    path: '',
    message,
    hint,
  })
  const text = await readFile(file.path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new ConfigError([refuse(`cannot be read: ${error.code ?? 'unknown error'}`, undefined)])
  })
  const { sections, problems } = readYamlFile(text, file.name)
  const read = readAdmission(sections.get('admission'), file)
  const all = [...problems, ...read.problems]
  if (read.value === undefined && all.length === 0)
    all.push(refuse('has no section admission', 'docs/admission.md has one to start with'))
  if (read.value === undefined || all.length > 0) throw new ConfigError(all)
  return read.value
}

function rulesOf({ mode, default: verdict, allow = [], deny = [], mirrors = [] }: Section): AdmissionRules {
  const rules = [
    ...deny.flatMap(entry => rulesOfEntry(entry, false)),
    ...allow.flatMap(entry => rulesOfEntry(entry, true)),
  ]
  return {
    mode: mode ?? 'enforce',
    isAllowedByDefault: verdict === 'allow',
    rules: orderRules(rules),
    mirrors,
  }
}

function rulesOfEntry({ names, namespaces = [], reason }: Entry, isAllowed: boolean): AdmissionRule[] {
  return names.flatMap(({ text, entry }) =>
    entry.map(each => ({ text, names: each, isAllowed, namespaces, reason })),
  )
}

interface WrittenEntry {
  readonly text: string
  readonly entry: ListedNames
}

function withText(text: string, entry: ListedNames | undefined): WrittenEntry | undefined {
  return entry === undefined ? undefined : { text, entry }
}

function listed(value: unknown): unknown {
  return Array.isArray(value) || value === undefined ? value : [value]
}

function shownAdmission(
  { mode, isAllowedByDefault, rules, mirrors }: AdmissionRules,
  section: YamlSection,
  file: NamedFile,
): readonly ShownValue[] {
  const at = (key: string): ShownValue['origin'] =>
    ({ kind: 'file', file: file.name, line: section.lineOf([key]) }) as const
  return [
    { key: section.name, value: '', origin: undefined },
    { key: '  mode', value: mode, origin: at('mode') },
    { key: '  default', value: isAllowedByDefault ? 'allow' : 'deny', origin: at('default') },
    ...rules.map(({ isAllowed, names, namespaces }) => ({
      key: isAllowed ? '  - allow' : '  - deny',
      value: namespaces.length === 0 ? names.text : `${names.text} in ${namespaces.join(', ')}`,
      origin: at(isAllowed ? 'allow' : 'deny'),
    })),
    ...mirrors.map(mirror => ({ key: '  - mirror', value: mirror, origin: at('mirrors') })),
  ]
}
