import { join } from 'node:path'
import type { FileSections } from '../../src/config/config.ts'
import { readSections } from '../../src/config/file/sections.ts'
import { readYamlFile } from '../../src/config/file/yaml-file.ts'
import { formatProblem } from '../../src/config/problem.ts'

/** The sections of the text of an upstream file in this directory; throws with its first problem. */
export function sectionsOf(text: string, directory = '/'): FileSections {
  const file = { name: 'upstreams.yaml', path: join(directory, 'upstreams.yaml') }
  const { sections: read, problems } = readYamlFile(text, file.name)
  const { sections, problems: others } = readSections(read, file)
  const [problem] = [...problems, ...others]
  if (problem !== undefined) throw new Error(formatProblem(problem))
  return sections
}
