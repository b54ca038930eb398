import * as z from 'zod'
import type { Right } from '../../oci/identity.ts'
import { parseWho, type Rule } from '../../oci/rules/rule.ts'
import { parseRuleNames } from '../../oci/rules/rule-names.ts'
import type { Problem } from '../problem.ts'
import { parsed, parsedOpenly } from './entry.ts'
import { checkSection, type NamedFile, type ReadSection, type ShownValue, sectionProblem } from './section.ts'
import type { YamlSection } from './yaml-file.ts'

const RIGHTS = ['pull', 'push', 'delete', 'admin'] as const satisfies readonly Right[]

/** Each list may also be a single value. */
function oneOrMore<Item extends z.ZodType>(item: Item): z.ZodPreprocess<z.ZodArray<Item>> {
  return z.preprocess(value => (Array.isArray(value) || value === undefined ? value : [value]), z.array(item))
}

const WHO = parsed(
  parseWho,
  'names nobody',
  'everyone, authenticated, anonymous, a user, group:NAME, robot:NAME or such as github:acme/*@refs/heads/main',
)
const NAMES = parsedOpenly(
  parseRuleNames,
  'is not a pattern of names',
  'such as docker.io/acme/**, docker.io/acme/app:v*, docker.io/acme/app@sha256:* or **',
)
const REASON_LENGTH_MAX = 200
const REASON = parsed(
  text => (/^[^\p{Cc}]+$/u.test(text) && text.length <= REASON_LENGTH_MAX ? text : undefined),
  'is not a reason',
  `a line of at most ${REASON_LENGTH_MAX} characters`,
)

const ROWS = z.array(
  z.strictObject({
    who: oneOrMore(WHO),
    names: oneOrMore(NAMES).optional(),
    may: oneOrMore(z.enum(RIGHTS)).optional(),
    may_not: oneOrMore(z.enum(RIGHTS)).optional(),
    reason: REASON.optional(),
  }),
)

type Row = z.output<typeof ROWS>[number]

const EVERYTHING = parseRuleNames('**')

/** Reads the section `rules`. A row says either what its senders may do, or what they may not. */
export function readRules(section: YamlSection | undefined, file: NamedFile): ReadSection<readonly Rule[]> {
  if (section === undefined) return { value: [], shown: [], problems: [] }
  const { value: rows = [], problems } = checkSection(section, ROWS, file)
  const wrong = rows.flatMap((row, index) => problemsOfRow(row, index, section, file))
  const rules = rows.map((row, index) => ruleOf(row, section.lineOf([index])))
  return { value: rules, shown: shownRules(rules, file), problems: [...problems, ...wrong] }
}

function problemsOfRow(
  { who, names, may, may_not: mayNot }: Row,
  index: number,
  section: YamlSection,
  file: NamedFile,
): readonly Problem[] {
  const refuse = (key: string, message: string, hint: string): Problem =>
    sectionProblem(section, file, key === '' ? [index] : [index, key], { message, hint })
  const rights = may ?? mayNot
  if (rights === undefined || (may !== undefined && mayNot !== undefined))
    return [refuse('', 'needs either may or may_not', 'such as may: [pull, push]')]
  if (rights.length === 0)
    return [refuse(may === undefined ? 'may_not' : 'may', 'is empty', 'leave the row out')]
  if (who.length === 0) return [refuse('who', 'is empty', 'write everyone')]
  if (names?.length === 0) return [refuse('names', 'is empty', 'leave it out for all names')]
  if (!rights.includes('admin') || names === undefined) return []
  return [refuse('names', 'cannot limit admin', 'give admin in a row without names')]
}

function ruleOf({ who, names, may, may_not: mayNot, reason }: Row, line: number): Rule {
  const everything = EVERYTHING === undefined ? [] : [EVERYTHING]
  return {
    who,
    names: names ?? everything,
    rights: may === undefined ? (mayNot ?? []) : withLesser(may),
    isAllowed: may !== undefined,
    reason,
    line,
  }
}

/** Clients look for what they push before they push it, so the right to push includes the right to pull. */
function withLesser(rights: readonly Right[]): readonly Right[] {
  return rights.includes('push') && !rights.includes('pull') ? ['pull', ...rights] : rights
}

function shownRules(rules: readonly Rule[], file: NamedFile): readonly ShownValue[] {
  return [
    { key: 'rules', value: rules.length === 0 ? '[]' : '', origin: undefined },
    ...rules.map(({ rights, isAllowed, names, line }) => ({
      key: isAllowed ? '  - may' : '  - may_not',
      value: `${rights.join(', ')}: ${names.map(({ text }) => text).join(', ')}`,
      origin: { kind: 'file', file: file.name, line } as const,
    })),
  ]
}
