import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parse } from 'yaml'
import { goModule } from '../../packaging/rig/tools.ts'
import type { Cluster } from './cluster.ts'

/** Where the definitions of kinds are that the chart uses and Kubernetes lacks. */
const DEFINITIONS = [
  {
    module: 'github.com/prometheus-operator/prometheus-operator@v0.85.0',
    directory: 'example/prometheus-operator-crd',
    files: /_(?:servicemonitors|prometheusrules)\.yaml$/,
  },
  {
    module: 'github.com/cert-manager/cert-manager@v1.18.2',
    directory: 'deploy/crds',
    files: /(?:_|-)certificates\.yaml$/,
  },
] as const

/** Teaches a cluster the kinds of Prometheus' operator and of cert-manager that the chart makes. */
export async function defineForeignKinds(cluster: Cluster): Promise<void> {
  for (const { module, directory, files } of DEFINITIONS) {
    const from = join(await goModule(module), directory)
    const found = (await readdir(from)).filter(name => files.test(name))
    if (found.length === 0) throw new Error(`${module} has no definition in ${directory}`)
    for (const file of found) await define(cluster, await readFile(join(from, file), 'utf8'))
  }
  await cluster.kubectl(
    'wait',
    '--for=condition=Established',
    'customresourcedefinitions',
    '--all',
    '--timeout=60s',
  )
}

/** Creates a definition without its labels and annotations, which may be templates of another chart. */
async function define(cluster: Cluster, text: string): Promise<void> {
  const { metadata, ...definition } = parse(text) as { readonly metadata: { readonly name: string } }
  const { code, stderr } = await cluster.create({ ...definition, metadata: { name: metadata.name } })
  if (code !== 0) throw new Error(`${metadata.name} cannot be defined: ${stderr}`)
}
