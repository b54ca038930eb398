import * as z from 'zod'
import { type NamePattern, parseNamePattern } from '../../oci/name-pattern.ts'
import { canonicalText, DOCKER_HUB, parseConfiguredNamespace } from '../../oci/namespace.ts'
import { hostOfPath } from '../../oci/path-host.ts'
import type { HostedClaim } from '../config.ts'
import type { Problem } from '../problem.ts'
import { parsedOpenly } from './entry.ts'
import { checkSection, type NamedFile, type ReadSection, type ShownValue, sectionProblem } from './section.ts'
import type { YamlSection } from './yaml-file.ts'

/**
 * A pattern in the spelling that requests are resolved to. Any other one would never match, and so claim
 * nothing: it is refused.
 */
function parseClaim(text: string): NamePattern | undefined {
  const pattern = parseNamePattern(text)
  const [first = '', second, ...rest] = pattern?.components ?? []
  if (canonicalText(hostOfPath(first, () => false)) !== first) return undefined
  const isUnofficial = first === DOCKER_HUB && rest.length === 0 && second !== '**'
  return isUnofficial ? undefined : pattern
}

const CLAIMS = z.array(
  z.strictObject({
    names: parsedOpenly(
      parseClaim,
      'is not a pattern of names',
      'a namespace and a name, such as registry.example.com/** or docker.io/acme/**',
    ),
    fallback: parsedOpenly(parseConfiguredNamespace, 'is not a namespace', 'such as docker.io').optional(),
  }),
)

/** Reads the section `hosted`, which claims names. Two claims of the same names are refused. */
export function readHosted(
  section: YamlSection | undefined,
  file: NamedFile,
): ReadSection<readonly HostedClaim[]> {
  if (section === undefined) return { value: [], shown: [], problems: [] }
  const { value = [], problems } = checkSection(section, CLAIMS, file)
  const claims = value.map(({ names, fallback }) => ({ names, fallback }))
  const twice = claimedTwice(claims, section, file)
  return { value: claims, shown: shownClaims(claims, section, file), problems: [...problems, ...twice] }
}

function claimedTwice(
  claims: readonly HostedClaim[],
  section: YamlSection,
  file: NamedFile,
): readonly Problem[] {
  const first = new Map<string, number>()
  return claims.flatMap(({ names }, index) => {
    const earlier = first.get(names.text)
    if (earlier === undefined) {
      first.set(names.text, index)
      return []
    }
    const message = `is ${names.text} again, which line ${section.lineOf([earlier])} claims`
    return [sectionProblem(section, file, [index, 'names'], { message, hint: 'keep one' })]
  })
}

function shownClaims(
  claims: readonly HostedClaim[],
  section: YamlSection,
  file: NamedFile,
): readonly ShownValue[] {
  const originOf = (...path: PropertyKey[]): ShownValue['origin'] => ({
    kind: 'file',
    file: file.name,
    line: section.lineOf(path),
  })
  return [
    { key: section.name, value: claims.length === 0 ? '[]' : '', origin: undefined },
    ...claims.flatMap(({ names, fallback }, index) => [
      { key: '  - names', value: names.text, origin: originOf(index, 'names') },
      ...(fallback === undefined
        ? []
        : [{ key: '    fallback', value: fallback, origin: originOf(index, 'fallback') }]),
    ]),
  ]
}
