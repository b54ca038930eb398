import * as z from 'zod'
import { formatDuration, parseDuration } from '../../lib/duration.ts'
import { parseImageName } from '../../oci/image-name.ts'
import { parsePlatform } from '../../oci/platform.ts'
import { parseSemverRange } from '../../oci/tag-choice.ts'
import type { WarmRule } from '../config.ts'
import { parsedOpenly } from './entry.ts'
import { checkSection, type NamedFile, type ReadSection, type ShownValue } from './section.ts'
import type { YamlSection } from './yaml-file.ts'

const INTERVAL_MS_DEFAULT = 6 * 3_600_000
const INTERVAL_MS_MIN = 60_000
const NEWEST_MAX = 100

const RULES = z.array(
  z.strictObject({
    image: parsedOpenly(
      parseRepository,
      'is not the name of an image without a tag',
      'such as docker.io/library/alpine',
    ),
    tags: z
      .array(parsedOpenly(parsePattern, 'is not a pattern of tags', "such as '3.*' or latest"))
      .min(1)
      .optional(),
    semver: parsedOpenly(parseSemverRange, 'is not a range of versions', "such as '>=3.18 <4'").optional(),
    newest: z.int().min(1).max(NEWEST_MAX).optional(),
    platforms: z
      .array(parsedOpenly(parsePlatform, 'is not a platform', 'such as linux/amd64'))
      .min(1)
      .optional(),
    interval: parsedOpenly(parseInterval, 'is not a duration of at least 1m', 'such as 6h').optional(),
  }),
)

type RuleEntry = z.output<typeof RULES>[number]

/** Reads the section `warm`: images that are pulled into the cache at intervals. */
export function readWarm(
  section: YamlSection | undefined,
  file: NamedFile,
): ReadSection<readonly WarmRule[]> {
  if (section === undefined) return { value: [], shown: [], problems: [] }
  const { value = [], problems } = checkSection(section, RULES, file)
  return { value: value.map(ruleOf), shown: shownRules(value, section, file), problems }
}

/** Without any choice of tags, only `latest` is warmed, as by `entrepot warm`. */
function ruleOf({ image, tags, semver, newest, platforms, interval }: RuleEntry): WarmRule {
  const isChosen = semver !== undefined || newest !== undefined
  return {
    image,
    patterns: tags ?? (isChosen ? [] : ['latest']),
    semver,
    newest,
    platforms: platforms ?? [],
    intervalMs: interval ?? INTERVAL_MS_DEFAULT,
  }
}

function shownRules(
  entries: readonly RuleEntry[],
  section: YamlSection,
  file: NamedFile,
): readonly ShownValue[] {
  const rows = entries.flatMap((entry, index) =>
    Object.entries({ ...entry, interval: formatDuration(entry.interval ?? INTERVAL_MS_DEFAULT) })
      .filter(([, value]) => value !== undefined)
      .map(([key, value], position): ShownValue => {
        const isGiven = key !== 'interval' || entry.interval !== undefined
        const line = isGiven ? section.lineOf([index, key]) : undefined
        return {
          key: `${position === 0 ? '  - ' : '    '}${key}`,
          value: Array.isArray(value) ? `[${value.join(', ')}]` : String(value),
          origin: isGiven ? { kind: 'file', file: file.name, line } : { kind: 'default' },
        }
      }),
  )
  return [{ key: section.name, value: rows.length === 0 ? '[]' : '', origin: undefined }, ...rows]
}

function parseRepository(text: string): string | undefined {
  const isNamed = text.includes('@') || /:[^/]*$/.test(text)
  return !isNamed && parseImageName(text) !== undefined ? text : undefined
}

function parsePattern(text: string): string | undefined {
  return /^[A-Za-z0-9_.*-]{1,128}$/.test(text) ? text : undefined
}

function parseInterval(text: string): number | undefined {
  const intervalMs = parseDuration(text)
  return intervalMs === undefined || intervalMs < INTERVAL_MS_MIN ? undefined : intervalMs
}
