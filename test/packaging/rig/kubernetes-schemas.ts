import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parse } from 'yaml'
import { goModule } from './tools.ts'

/** Go modules with the definitions that the API server of their version accepts. */
const KUBERNETES = 'k8s.io/kubernetes@v1.34.2'
const PROMETHEUS_OPERATOR = 'github.com/prometheus-operator/prometheus-operator@v0.85.0'

type Schema = { readonly [key: string]: unknown }

/**
 * Writes JSON schemas for kubeconform into a directory, as `<kind>-<group>-<version>.json`: Kubernetes' own
 * from its OpenAPI document, and those of Prometheus' operator from its resource definitions. They refuse
 * unknown fields.
 */
export async function writeSchemas(directory: string): Promise<void> {
  await writeOwn(directory)
  await writeCustom(directory)
}

async function writeOwn(directory: string): Promise<void> {
  const file = join(await goModule(KUBERNETES), 'api/openapi-spec/swagger.json')
  const { definitions } = JSON.parse(await readFile(file, 'utf8')) as {
    readonly definitions: Readonly<Record<string, Schema>>
  }
  const strict = Object.fromEntries(
    Object.entries(definitions).map(([name, schema]) => [name, special(name) ?? strictly(schema)]),
  )
  for (const [name, schema] of Object.entries(definitions)) {
    for (const { group, version, kind } of kindsOf(schema)) {
      if (!(KINDS.get(group) ?? []).includes(kind)) continue
      const suffix = group === '' ? version : `${group.split('.')[0]}-${version}`
      const whole = { $ref: `#/definitions/${name}`, definitions: reachable(name, strict) }
      await writeFile(join(directory, `${kind.toLowerCase()}-${suffix}.json`), JSON.stringify(whole))
    }
  }
}

/** Kinds that the chart creates, by group. */
const KINDS: ReadonlyMap<string, readonly string[]> = new Map([
  ['admissionregistration.k8s.io', ['ValidatingWebhookConfiguration']],
  ['', ['ConfigMap', 'PersistentVolumeClaim', 'Pod', 'Secret', 'Service', 'ServiceAccount']],
  ['apps', ['DaemonSet', 'Deployment', 'StatefulSet']],
  ['networking.k8s.io', ['Ingress', 'NetworkPolicy']],
  ['policy', ['PodDisruptionBudget']],
  ['rbac.authorization.k8s.io', ['ClusterRole', 'ClusterRoleBinding']],
])

interface Kind {
  readonly group: string
  readonly version: string
  readonly kind: string
}

function kindsOf(schema: Schema): readonly Kind[] {
  const kinds = schema['x-kubernetes-group-version-kind']
  return Array.isArray(kinds) ? (kinds as readonly Kind[]) : []
}

/** Types for which the document allows fewer spellings than the API server. */
function special(name: string): Schema | undefined {
  if (name.endsWith('.util.intstr.IntOrString')) return { type: ['string', 'integer'] }
  return name.endsWith('.api.resource.Quantity') ? { type: ['string', 'number'] } : undefined
}

/** Makes a schema refuse unknown fields. */
function strictly(schema: Schema): Schema {
  const isOpen =
    schema['additionalProperties'] !== undefined || schema['x-kubernetes-preserve-unknown-fields'] === true
  const entries = Object.entries(schema).map(([key, value]) => [
    key,
    key === 'properties' ? each(value) : deep(value),
  ])
  const closed = schema['properties'] !== undefined && !isOpen ? { additionalProperties: false } : {}
  const isEither = schema['x-kubernetes-int-or-string'] === true
  return { ...Object.fromEntries(entries), ...closed, ...(isEither ? { type: ['string', 'integer'] } : {}) }
}

function each(properties: unknown): Schema {
  return Object.fromEntries(Object.entries(properties as Schema).map(([name, value]) => [name, deep(value)]))
}

function deep(value: unknown): unknown {
  if (Array.isArray(value)) return value
  return typeof value === 'object' && value !== null ? strictly(value as Schema) : value
}

/** A definition and all definitions it needs. */
function reachable(
  name: string,
  definitions: Readonly<Record<string, Schema>>,
): Readonly<Record<string, Schema>> {
  const found = new Map<string, Schema>()
  const wanted = [name]
  for (let next = wanted.pop(); next !== undefined; next = wanted.pop()) {
    const schema = definitions[next]
    if (schema === undefined || found.has(next)) continue
    found.set(next, schema)
    const references = JSON.stringify(schema).matchAll(/"#\/definitions\/([^"]+)"/g)
    wanted.push(...[...references].map(([, reference = '']) => reference))
  }
  return Object.fromEntries(found)
}

interface ResourceDefinition {
  readonly spec: {
    readonly group: string
    readonly names: { readonly kind: string }
    readonly versions: readonly {
      readonly name: string
      readonly schema: { readonly openAPIV3Schema: Schema }
    }[]
  }
}

const CUSTOM = /_(?:servicemonitors|prometheusrules)\.yaml$/

async function writeCustom(directory: string): Promise<void> {
  const from = join(await goModule(PROMETHEUS_OPERATOR), 'example/prometheus-operator-crd')
  for (const file of (await readdir(from)).filter(name => CUSTOM.test(name))) {
    const { spec } = parse(await readFile(join(from, file), 'utf8')) as ResourceDefinition
    for (const { name, schema } of spec.versions) {
      const target = `${spec.names.kind.toLowerCase()}-${spec.group.split('.')[0]}-${name}.json`
      const metadata = { type: 'object' }
      const whole = strictly(schema.openAPIV3Schema)
      const properties = { ...(whole['properties'] as Schema), metadata }
      await writeFile(join(directory, target), JSON.stringify({ ...whole, properties }))
    }
  }
}
