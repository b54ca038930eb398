import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { skipWithout } from '../packaging/rig/tools.ts'
import { CHART_DIRECTORY, valuesFiles } from './rig/chart.ts'
import { CLUSTER_PROGRAMS, Cluster } from './rig/cluster.ts'
import { defineForeignKinds } from './rig/foreign-kinds.ts'

const FILES = await valuesFiles()

interface Listed {
  readonly items: readonly { readonly kind: string; readonly metadata: { readonly name: string } }[]
}

describe('the chart on a real API server', { skip: skipWithout(...CLUSTER_PROGRAMS, 'go') }, () => {
  let cluster: Cluster

  before(async () => {
    cluster = await Cluster.start()
    await defineForeignKinds(cluster)
  })

  after(async () => {
    await cluster[Symbol.asyncDispose]()
  })

  for (const { name, path } of FILES) {
    test(`with ${name}, the chart is installed, upgraded and uninstalled without a warning`, async () => {
      const namespace = `installed-${name}`
      const flags = ['--namespace', namespace, '--values', path]
      await cluster.namespace(namespace, /hostPath/.test(await rendered(flags)) ? 'privileged' : 'restricted')
      // Strict, as helm does not ask for it: an unknown field of any object is an error.
      const file = join(cluster.room, `${namespace}.yaml`)
      await writeFile(file, await rendered(flags))
      const dry = ['--namespace', namespace, '--dry-run=server', '--validate=strict', '--filename', file]
      await cluster.kubectl('create', ...dry)
      await cluster.helm('install', 'mirror', CHART_DIRECTORY, ...flags)
      await cluster.helm('upgrade', 'mirror', CHART_DIRECTORY, ...flags)
      const kinds = await workloads(namespace)
      assert.ok(kinds.length > 0, String(kinds))
      await cluster.helm('uninstall', 'mirror', '--namespace', namespace)
      assert.deepEqual(await workloads(namespace), [])
    })
  }

  const rendered = async (flags: readonly string[]): Promise<string> =>
    await cluster.helm(
      'template',
      'mirror',
      CHART_DIRECTORY,
      '--no-hooks',
      '--kube-version',
      '1.34.0',
      ...flags,
    )

  const workloads = async (namespace: string): Promise<readonly string[]> => {
    const kinds = 'statefulsets,deployments,daemonsets'
    const text = await cluster.kubectl('get', kinds, '--namespace', namespace, '--output', 'json')
    return (JSON.parse(text) as Listed).items.map(({ kind, metadata }) => `${kind} ${metadata.name}`)
  }
})
