import { resolve } from 'node:path'
import { stringify } from 'yaml'
import { imagePolicy } from '../../admission/image-policy.ts'
import { loadAdmission } from '../../config/file/admission.ts'
import { ConfigError, flagProblem, type Problem, wordProblem } from '../../config/problem.ts'
import { EXIT } from '../environment.ts'
import type { Tool } from '../tool.ts'

const NAME = /^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/
const DEFAULT_NAME = 'entrepot-images'

/** `entrepot policy --kubernetes`: the rules of the gate for the API server itself. */
export const policy: Tool = {
  usage: '--kubernetes --upstream-config-file FILE [options]',
  description:
    'Print the section admission of the upstream file as a ValidatingAdmissionPolicy with its binding: the API\nserver of Kubernetes 1.30 or newer then gives the verdicts itself, without a webhook.',
  flags: {
    kubernetes: { type: 'boolean', description: 'the format, which is the only one (required)' },
    'upstream-config-file': {
      type: 'text',
      value: 'FILE',
      description: 'file with the section admission (required)',
    },
    name: { type: 'text', value: 'NAME', description: `name of the objects; ${DEFAULT_NAME} by default` },
    'exclude-namespace': {
      type: 'list',
      value: 'NAMESPACE',
      description: 'a namespace in which the policy does not hold; may be repeated',
    },
  },
  examples: [
    ['policy --kubernetes --upstream-config-file gate.yaml', 'print the policy, for kubectl apply -f -'],
  ],
  run: async (environment, words) => {
    const problems: Problem[] = words.words.map(word =>
      wordProblem(word, 'is an unexpected argument', 'policy takes options only'),
    )
    if (!words.isOn('kubernetes'))
      problems.push(flagProblem('kubernetes', 'is missing', 'it is the only format'))
    const file = words.text('upstream-config-file')
    if (file === undefined)
      problems.push(flagProblem('upstream-config-file', 'is missing', 'a file with a section admission'))
    const name = words.text('name') ?? DEFAULT_NAME
    if (!NAME.test(name)) problems.push(flagProblem('name', 'is not a name of an object', DEFAULT_NAME))
    const excluded = words.list('exclude-namespace')
    if (!excluded.every(each => NAME.test(each)))
      problems.push(flagProblem('exclude-namespace', 'is not a namespace', 'such as kube-system'))
    if (problems.length > 0 || file === undefined) throw new ConfigError(problems)
    const rules = await loadAdmission({ name: file, path: resolve(environment.cwd, file) })
    const documents = imagePolicy(rules, { name, excluded })
    const texts = documents.map(document => stringify(document, { lineWidth: 0 }))
    environment.stdout.write(texts.join('---\n'))
    return EXIT.ok
  },
}
