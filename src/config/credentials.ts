import { type Namespace, parseConfiguredNamespace } from '../oci/namespace.ts'
import type { UpstreamCredentials } from './config.ts'
import { CREDENTIALS, explainIssue } from './file/entry.ts'
import type { Problem, ValueOrigin } from './problem.ts'

/** Content of `UPSTREAM_CREDENTIALS`. */
export interface GivenCredentials {
  readonly credentials: ReadonlyMap<Namespace, UpstreamCredentials>
  readonly problems: readonly Problem[]
}

const HINT = 'such as {"docker.io": {"username": "…", "password": "…"}}'

/** Parses a JSON map of namespace to user name and password. Problems repeat nothing of it but namespaces. */
export function parseCredentials(text: string, origin: ValueOrigin): GivenCredentials {
  const credentials = new Map<Namespace, UpstreamCredentials>()
  const problems: Problem[] = []
  const refuse = (path: string, message: string, hint: string | undefined): void => {
    problems.push({ origin, path, message, hint })
  }
  const json = parseJson(text)
  if (!isMap(json)) {
    refuse('', 'is not a JSON map of namespaces to credentials', HINT)
    return { credentials, problems }
  }
  for (const [index, [name, value]] of Object.entries(json).entries()) {
    const namespace = parseConfiguredNamespace(name)
    if (namespace === undefined) {
      refuse(`[${index}]`, 'is not a namespace', 'the registry as clients name it, such as docker.io')
      continue
    }
    if (credentials.has(namespace)) refuse(`[${namespace}]`, 'is given twice', 'keep one')
    const parsed = isMap(value) ? CREDENTIALS.safeParse(value) : undefined
    if (parsed?.success === true) {
      credentials.set(namespace, { kind: 'password', ...parsed.data })
      continue
    }
    if (!isMap(value) || parsed === undefined) {
      refuse(`[${namespace}]`, 'must be a map of username and password', HINT)
      continue
    }
    for (const issue of parsed.error.issues) {
      if (issue.code === 'unrecognized_keys') {
        refuse(`[${namespace}]`, 'has unknown keys', 'username and password')
        continue
      }
      const key = String(issue.path[0])
      const given = Object.hasOwn(value, key) ? value[key] : undefined
      const { message, hint } = explainIssue(issue, given)
      if (given === undefined) refuse(`[${namespace}].${key}`, 'is missing', 'both are required')
      else refuse(`[${namespace}].${key}`, message, hint)
    }
  }
  return { credentials, problems }
}

/** Drops the parser's message, which repeats a piece of the text. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
