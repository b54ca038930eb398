import { semver } from '../lib/libraries.ts'

/** Selects tags of a repository. */
export interface TagChoice {
  /** `*` stands for any characters. A tag has to match one of them, if there is any. */
  readonly patterns: readonly string[]
  /** A range of versions, as npm writes it. Tags that are no versions do not match. */
  readonly semver: string | undefined
  /** Only this many of the newest versions. */
  readonly newest: number | undefined
}

/** The range in normal form; `undefined` if the text is not a range of versions. */
export function parseSemverRange(text: string): string | undefined {
  return semver().validRange(text) === null || text.trim() === '' ? undefined : text
}

/** The chosen tags, the newest versions first if versions matter, otherwise in their order. */
export function chooseTags(
  tags: readonly string[],
  { patterns, semver: range, newest }: TagChoice,
): readonly string[] {
  const matchers = patterns.map(expressionOf)
  const named = matchers.length === 0 ? tags : tags.filter(tag => matchers.some(form => form.test(tag)))
  if (range === undefined && newest === undefined) return named
  const { satisfies, rcompare } = semver()
  const candidates = named.flatMap(tag => {
    const version = versionOf(tag)
    return version === undefined || (range !== undefined && !satisfies(version, range))
      ? []
      : [{ tag, version }]
  })
  return candidates
    .toSorted((one, other) => rcompare(one.version, other.version))
    .slice(0, newest)
    .map(({ tag }) => tag)
}

function expressionOf(pattern: string): RegExp {
  return new RegExp(`^${pattern.replaceAll('.', String.raw`\.`).replaceAll('*', '.*')}$`)
}

/** The version that a tag names. Images leave out numbers, so that `3.20` is `3.20.0`. */
function versionOf(tag: string): string | undefined {
  const [, major, minor = '0', patch = '0', rest = ''] =
    /^v?(\d{1,10})(?:\.(\d{1,10}))?(?:\.(\d{1,10}))?(-[0-9A-Za-z.-]+)?$/.exec(tag) ?? []
  if (major === undefined) return undefined
  return semver().valid(`${Number(major)}.${Number(minor)}.${Number(patch)}${rest}`) ?? undefined
}
