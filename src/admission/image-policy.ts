import { DOCKER_HUB, spellingsOf } from '../oci/namespace.ts'
import type { AdmissionMode, AdmissionRule, AdmissionRules } from '../oci/rules/admission-rules.ts'
import {
  IMAGE_ID,
  IMAGE_NAME,
  namespaceExpression,
  PATH_HOST,
  PATH_HOST_WITH_PORT,
  ruleExpression,
  SHORT_ENOUGH,
  TOO_LONG,
  WITH_HOST,
} from './name-expression.ts'

/** Where and how a policy holds. */
export interface PolicyOptions {
  readonly name: string
  /** Namespaces of the cluster to which it is not bound. */
  readonly excluded: readonly string[]
}

interface Variable {
  readonly name: string
  /** CEL. */
  readonly expression: string
}

const ACTIONS: Readonly<Record<AdmissionMode, string>> = { enforce: 'Deny', warn: 'Warn', audit: 'Audit' }
const API_VERSION = 'admissionregistration.k8s.io/v1'
const LABEL_OF_NAME = 'kubernetes.io/metadata.name'

/** A `ValidatingAdmissionPolicy` with its binding, which give the same verdicts as the gate. */
export function imagePolicy(rules: AdmissionRules, { name, excluded }: PolicyOptions): readonly object[] {
  const policy = {
    apiVersion: API_VERSION,
    kind: 'ValidatingAdmissionPolicy',
    metadata: { name },
    spec: {
      failurePolicy: 'Fail',
      matchConstraints: {
        resourceRules: [
          {
            apiGroups: [''],
            apiVersions: ['v1'],
            operations: ['CREATE', 'UPDATE'],
            resources: ['pods', 'pods/ephemeralcontainers'],
          },
        ],
      },
      variables: variablesOf(rules),
      validations: [
        validation('unnamed', "' is refused: this is not the name of an image'"),
        validation('refused', "' is refused by the rules'"),
      ],
    },
  }
  const selector = {
    namespaceSelector: {
      matchExpressions: [{ key: LABEL_OF_NAME, operator: 'NotIn', values: excluded }],
    },
  }
  const binding = {
    apiVersion: API_VERSION,
    kind: 'ValidatingAdmissionPolicyBinding',
    metadata: { name },
    spec: {
      policyName: name,
      validationActions: [ACTIONS[rules.mode]],
      ...(excluded.length === 0 ? {} : { matchResources: selector }),
    },
  }
  return [policy, binding]
}

function validation(variable: string, why: string): object {
  const list = `variables.${variable}`
  const more = `(size(${list}) > 1 ? ', and so are ' + string(size(${list}) - 1) + ' more' : '')`
  return {
    expression: `size(${list}) == 0`,
    messageExpression: `'image ' + ${list}[0] + ${why} + ${more}`,
    reason: 'Forbidden',
  }
}

/** The steps from the images of an object to those that are refused. */
function variablesOf(rules: AdmissionRules): readonly Variable[] {
  const isNamed = `i.matches(${quoted(IMAGE_NAME)}) && !i.matches(${quoted(IMAGE_ID)}) && i.matches(${quoted(SHORT_ENOUGH)}) && size(i) <= 1024`
  return [
    { name: 'images', expression: imagesOf('object') },
    { name: 'before', expression: `oldObject == null ? [] : ${imagesOf('oldObject')}` },
    { name: 'added', expression: 'variables.images.filter(i, !(i in variables.before))' },
    { name: 'named', expression: `variables.added.filter(i, ${isNamed})` },
    {
      name: 'hosted',
      expression: `variables.named.map(i, i.matches(${quoted(WITH_HOST)}) ? ${LOWER_HOST} : 'docker.io/' + i)`,
    },
    { name: 'spelled', expression: spelled('hosted') },
    ...mirrorSteps(rules),
    {
      name: 'names',
      expression: `variables.${rules.mirrors.length === 0 ? 'spelled' : 'mirrored'}.map(i, i.matches(r'^docker\\.io/[^/]+$') ? 'docker.io/library/' + i.substring(10) : i)`,
    },
    {
      name: 'unnamed',
      expression: `variables.added.filter(i, !(i in variables.named)) + variables.names.filter(i, i.matches(${quoted(TOO_LONG)}))`,
    },
    { name: 'refused', expression: `variables.names.filter(i, !(${verdict(rules)}))` },
  ]
}

const LOWER_HOST = "i.substring(0, i.indexOf('/')).lowerAscii() + i.substring(i.indexOf('/'))"

/** Every registry by one name, as `canonicalText` has it. */
function spelled(variable: string): string {
  const [, ...aliases] = spellingsOf(DOCKER_HUB)
  const withoutPort = `variables.${variable}.map(i, i.matches('^[^/]*:443/') ? i.replace(':443/', '/', 1) : i)`
  const isAlias = quoted(`^(?:${aliases.map(escapeDots).join('|')})/`)
  return `${withoutPort}.map(i, i.matches(${isAlias}) ? 'docker.io' + i.substring(i.indexOf('/')) : i)`
}

/** Images of mirrors by what they stand for. */
function mirrorSteps({ mirrors }: AdmissionRules): readonly Variable[] {
  if (mirrors.length === 0) return []
  const isMirror = quoted(`^(?:${mirrors.map(escapeAll).join('|')})/`)
  const rest = "i.substring(i.indexOf('/') + 1)"
  const first = "i.substring(0, i.indexOf('/'))"
  const cut = `${first}.substring(0, ${first}.lastIndexOf('_')) + ':' + i.substring(${first}.lastIndexOf('_') + 1)`
  const resolve = [
    `[${rest}].map(i, i.matches(${quoted(PATH_HOST)})`,
    `? (i.matches(${quoted(PATH_HOST_WITH_PORT)}) ? ${cut} : i)`,
    ": 'docker.io/' + i)[0]",
  ].join(' ')
  return [
    { name: 'behind', expression: `variables.spelled.map(i, i.matches(${isMirror}) ? ${resolve} : i)` },
    { name: 'mirrored', expression: spelled('behind') },
  ]
}

/** CEL that is true for a name that is allowed: rules of one verdict that follow each other are one step. */
function verdict({ rules, isAllowedByDefault }: AdmissionRules): string {
  const steps: { readonly rule: AdmissionRule; readonly expressions: string[] }[] = []
  for (const rule of rules) {
    const last = steps.at(-1)
    const isSame =
      last?.rule.isAllowed === rule.isAllowed && String(last.rule.namespaces) === String(rule.namespaces)
    if (isSame) last.expressions.push(ruleExpression(rule))
    else steps.push({ rule, expressions: [ruleExpression(rule)] })
  }
  return steps.reduceRight((otherwise, { rule, expressions }) => {
    const matches = `i.matches(${quoted(`^(?:${expressions.join('|')})$`)})`
    const isHere =
      rule.namespaces.length === 0
        ? matches
        : `request.namespace.matches(${quoted(`^${namespaceExpression(rule.namespaces)}$`)}) && ${matches}`
    return `${isHere} ? ${rule.isAllowed} : (${otherwise})`
  }, String(isAllowedByDefault))
}

/** CEL for all images of an object, as texts. */
function imagesOf(object: string): string {
  const spec = `${object}.spec`
  const containers = ['containers', 'initContainers', 'ephemeralContainers'].map(
    key => `(has(${spec}.${key}) ? ${spec}.${key}.map(c, has(c.image) ? c.image : '') : [])`,
  )
  const volumes = `(has(${spec}.volumes) ? ${spec}.volumes.filter(v, has(v.image)).map(v, has(v.image.reference) ? v.image.reference : '') : [])`
  return [...containers, volumes].join(' + ')
}

/** A raw text of CEL. No expression has a quote in it. */
function quoted(expression: string): string {
  return `r'${expression}'`
}

function escapeDots(host: string): string {
  return host.replaceAll('.', String.raw`\.`)
}

function escapeAll(host: string): string {
  return host.replaceAll(/[.[\]]/g, String.raw`\$&`)
}
