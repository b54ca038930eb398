import { readFileSync, writeFileSync } from 'node:fs'
import { isMap, isScalar, parseDocument, type YAMLMap } from 'yaml'

const CHART = new URL('../../../helm/entrepot/', import.meta.url)

interface Row {
  readonly name: string
  readonly fallback: string
  readonly text: string
}

const START = `# The Entrepot chart

A pull-through caching mirror for OCI registries: [what it is](../../README.md), [how nodes reach
it](../../docs/deploying.md#kubernetes).

\`\`\`sh
helm install entrepot helm/entrepot --namespace entrepot --create-namespace --values examples/kubernetes/small-cluster.yaml
\`\`\`

The cluster must be able to pull the image: [build it and push it](../../docs/deploying.md#kubernetes), then
add \`--set image.registry=…\`. \`helm test\` asks a running release whether it is alive. Values that the schema
does not know are refused. The table is made from \`values.yaml\`: \`node test/packaging/rig/chart-readme.ts\`.

| value | default | what it sets |
| --- | --- | --- |
`

/** The README of the chart, made from its values and the comments before them. */
export function chartReadme(): string {
  const { contents } = parseDocument(readFileSync(new URL('values.yaml', CHART), 'utf8'))
  if (!isMap(contents)) throw new TypeError('values.yaml is no map')
  const rows = rowsOf(contents, '').map(
    ({ name, fallback, text }) => `| \`${name}\` | ${fallback} | ${text} |\n`,
  )
  return `${START}${rows.join('')}`
}

/** Maps whose keys are Kubernetes' own and not ours. */
const WHOLE =
  /^(?:(?:liveness|readiness|startup)Probe|(?:.*\.)?resources|podSecurityContext|securityContext)$/

function rowsOf(map: YAMLMap, path: string): readonly Row[] {
  // The comment before the first key of a map belongs to the map.
  const [first] = map.items
  return map.items.flatMap(pair => {
    const key = pair.key as { readonly value?: unknown; readonly commentBefore?: string | null }
    const name = `${path}${String(key.value)}`
    const comment = (pair === first ? (map.commentBefore ?? key.commentBefore) : key.commentBefore) ?? ''
    const { value } = pair
    if (isMap(value) && value.items.length > 0 && !WHOLE.test(name)) {
      const text = paragraph(comment)
      const inner = rowsOf(value, `${name}.`)
      return text === '' ? inner : [{ name, fallback: '', text }, ...inner]
    }
    const isWhole = WHOLE.test(name)
    const json = isScalar(value) ? JSON.stringify(value.value) : JSON.stringify((value as YAMLMap).toJSON())
    return [{ name, fallback: isWhole ? 'see values.yaml' : `\`${json}\``, text: paragraph(comment) }]
  })
}

/** The last paragraph of a comment, without examples of YAML. */
function paragraph(comment: string): string {
  const last = comment.split(/\n\s*\n/).at(-1) ?? ''
  const lines = last.split('\n').map(line => line.trim())
  return lines
    .filter(line => !/^(?:- )?[a-z_]+: /.test(line))
    .join(' ')
    .replaceAll('|', '\\|')
    .replaceAll('<', '&lt;')
    .trim()
}

if (import.meta.main) writeFileSync(new URL('README.md', CHART), chartReadme())
