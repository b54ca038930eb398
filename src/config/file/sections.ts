import { nearest } from '../../lib/words/nearest.ts'
import type { FileSections } from '../config.ts'
import type { Problem } from '../problem.ts'
import { readAdmission } from './admission.ts'
import { readAuth } from './auth.ts'
import { readHosted } from './hosted.ts'
import { readNotifications } from './notifications.ts'
import { readPolicies } from './policies.ts'
import { readRules } from './rules.ts'
import type { NamedFile, ReadSection, ShownValue } from './section.ts'
import { readWarm } from './warm.ts'
import { isShowable, type YamlSection } from './yaml-file.ts'

/** Reads each section. A new section gets a file of its own, a row here and a key in `FileSections`. */
const READERS: {
  readonly [Name in keyof FileSections]: (
    section: YamlSection | undefined,
    file: NamedFile,
  ) => ReadSection<FileSections[Name]>
} = {
  hosted: readHosted,
  policies: readPolicies,
  notifications: readNotifications,
  auth: readAuth,
  rules: readRules,
  warm: readWarm,
  admission: readAdmission,
}

const NAMES: readonly string[] = ['upstreams', ...Object.keys(READERS)]

/** Reads the sections of a file. An unknown section is a problem. */
export function readSections(
  sections: ReadonlyMap<string, YamlSection>,
  file: NamedFile,
): {
  readonly sections: FileSections
  readonly shown: readonly ShownValue[]
  readonly problems: readonly Problem[]
} {
  const shown: ShownValue[] = []
  const problems = [...sections.values()].flatMap(section => unknownSection(section, file))
  const read = <Name extends keyof FileSections>(name: Name): FileSections[Name] => {
    const result = READERS[name](sections.get(name), file)
    shown.push(...result.shown)
    problems.push(...result.problems)
    return result.value
  }
  return {
    sections: {
      hosted: read('hosted'),
      policies: read('policies'),
      notifications: read('notifications'),
      auth: read('auth'),
      rules: read('rules'),
      warm: read('warm'),
      admission: read('admission'),
    },
    shown,
    problems,
  }
}

function unknownSection(section: YamlSection, file: NamedFile): readonly Problem[] {
  if (NAMES.includes(section.name)) return []
  const isShown = isShowable(section.name)
  const meant = isShown ? nearest(section.name, NAMES) : undefined
  const hint = meant === undefined ? `known sections: ${NAMES.join(', ')}` : `did you mean ${meant}?`
  return [
    {
      origin: { kind: 'file', file: file.name, line: section.lineOf([]) },
      path: isShown ? section.name : '',
      message: isShown ? 'is not a known section' : 'has an unknown section',
      hint,
    },
  ]
}
