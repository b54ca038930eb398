import { NO_SECTIONS } from '../../src/config/config.ts'
import type { AdmissionRules } from '../../src/oci/rules/admission-rules.ts'
import { sectionsOf } from '../support/sections.ts'

/** The rules of the text of a section `admission`. */
export function admissionRules(section: string): AdmissionRules {
  const lines = section.split('\n').map(line => `  ${line}`)
  const { admission } = { ...NO_SECTIONS, ...sectionsOf(`admission:\n${lines.join('\n')}\n`) }
  if (admission === undefined) throw new Error('the section has no rules')
  return admission
}
