import * as z from 'zod'
import { parseBytes } from '../../lib/bytes.ts'
import { parseDuration } from '../../lib/duration.ts'
import { parseNamePattern } from '../../oci/name-pattern.ts'
import type { HostedPolicy } from '../config.ts'
import type { Problem } from '../problem.ts'
import { parsedOpenly } from './entry.ts'
import { checkSection, type NamedFile, type ReadSection, type ShownValue, sectionProblem } from './section.ts'
import type { YamlSection } from './yaml-file.ts'

const GLOB = parsedOpenly(parseGlob, 'is not a pattern of tags', 'such as v* or pr-*')

const POLICIES = z.array(
  z.strictObject({
    names: parsedOpenly(parseNamePattern, 'is not a pattern of names', 'such as registry.example.com/**'),
    immutable_tags: z.array(GLOB).min(1).optional(),
    quota: parsedOpenly(parseBytes, 'is not a size', 'such as 100GiB').optional(),
    read_only: z.boolean().optional(),
    retention: z
      .strictObject({
        tags: z.array(GLOB).min(1),
        keep_pushed: z.int().min(0).max(10_000).optional(),
        pushed_within: parsedOpenly(parseDuration, 'is not a duration', 'such as 30d').optional(),
        keep_pulled: z.int().min(0).max(10_000).optional(),
        pulled_within: parsedOpenly(parseDuration, 'is not a duration', 'such as 30d').optional(),
        keep_versions: z.boolean().optional(),
      })
      .optional(),
  }),
)

type PolicyEntry = z.output<typeof POLICIES>[number]

/** Reads the section `policies`: immutable tags, quotas, retention and what is read-only. */
export function readPolicies(
  section: YamlSection | undefined,
  file: NamedFile,
): ReadSection<readonly HostedPolicy[]> {
  if (section === undefined) return { value: [], shown: [], problems: [] }
  const { value = [], problems } = checkSection(section, POLICIES, file)
  return {
    value: value.map(policyOf),
    shown: shownPolicies(value, section, file),
    problems: [...problems, ...boundless(value, section, file)],
  }
}

function policyOf({ names, immutable_tags, quota, read_only, retention }: PolicyEntry): HostedPolicy {
  return {
    names,
    immutableTags: immutable_tags ?? [],
    quotaBytes: quota,
    isReadOnly: read_only ?? false,
    retention:
      retention === undefined
        ? undefined
        : {
            tags: retention.tags,
            keepPushed: retention.keep_pushed ?? 0,
            pushedWithinMs: retention.pushed_within ?? 0,
            keepPulled: retention.keep_pulled ?? 0,
            pulledWithinMs: retention.pulled_within ?? 0,
            keepsVersions: retention.keep_versions ?? true,
          },
  }
}

/** Retention that keeps nothing is a mistake, and not a wish to delete every tag. */
function boundless(
  entries: readonly PolicyEntry[],
  section: YamlSection,
  file: NamedFile,
): readonly Problem[] {
  return entries.flatMap(({ retention }, index) => {
    if (retention === undefined) return []
    const { keep_pushed, pushed_within, keep_pulled, pulled_within } = retention
    if ([keep_pushed, pushed_within, keep_pulled, pulled_within].some(rule => rule !== undefined)) return []
    const message = 'says which tags may go, but not which stay'
    const hint = 'add a rule, such as keep_pushed or pulled_within'
    return [sectionProblem(section, file, [index, 'retention'], { message, hint })]
  })
}

function shownPolicies(
  entries: readonly PolicyEntry[],
  section: YamlSection,
  file: NamedFile,
): readonly ShownValue[] {
  const rows = entries.flatMap((entry, index) =>
    Object.entries(entry)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => ({
        key: `${key === 'names' ? '  - ' : '    '}${key}`,
        value: textOf(value),
        origin: { kind: 'file', file: file.name, line: section.lineOf([index, key]) } as const,
      })),
  )
  return [{ key: section.name, value: rows.length === 0 ? '[]' : '', origin: undefined }, ...rows]
}

function textOf(value: unknown): string {
  if (typeof value === 'object' && value !== null && 'text' in value) return String(value.text)
  return typeof value === 'string' ? value : JSON.stringify(value)
}

function parseGlob(text: string): string | undefined {
  return /^[A-Za-z0-9_.*-]{1,128}$/.test(text) ? text : undefined
}
