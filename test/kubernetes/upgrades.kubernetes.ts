import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { run, skipWithout } from '../packaging/rig/tools.ts'
import { CHART_DIRECTORY, earlierChart } from './rig/chart.ts'
import { CLUSTER_PROGRAMS, Cluster } from './rig/cluster.ts'

/** Values that both versions of the chart know. */
const WAYS = [
  ['StatefulSet', ['replicas=2']],
  ['Deployment', ['workload=Deployment']],
  ['DaemonSet', ['workload=DaemonSet', 'storage.filesystem.hostPath=/var/lib/entrepot']],
  ['Deployment', ['storage.mode=s3', 'storage.s3.bucket=b', 'replicas=3']],
] as const

interface Named {
  readonly metadata: { readonly name: string; readonly uid?: string }
}

interface StatefulSet extends Named {
  readonly spec: {
    readonly replicas: number
    readonly selector: { readonly matchLabels: Readonly<Record<string, string>> }
    readonly volumeClaimTemplates: readonly (Named & { readonly spec: object })[]
  }
}

describe('an upgrade of the chart', { skip: skipWithout(...CLUSTER_PROGRAMS, 'git', 'tar') }, () => {
  let cluster: Cluster
  let earlier: string

  before(async () => {
    cluster = await Cluster.start()
    earlier = await earlierChart(cluster.room)
    await cluster.create(ENLARGEABLE)
  })

  after(async () => {
    await cluster[Symbol.asyncDispose]()
  })

  for (const [index, [kind, sets]] of WAYS.entries()) {
    test(`from the version before takes over ${kind} ${index + 1} with its cache`, async () => {
      const namespace = `upgraded-${index}`
      const release = ['mirror', '--namespace', namespace, ...sets.flatMap(set => ['--set', set])]
      await cluster.namespace(namespace, 'privileged')
      await cluster.helm('install', 'mirror', earlier, ...release.slice(1))
      const before = await cluster.get<Named>(kind, 'mirror-entrepot', namespace)
      if (kind === 'StatefulSet') await makeClaims(namespace)
      const cache = await claims(namespace)
      await cluster.helm('upgrade', 'mirror', CHART_DIRECTORY, ...release.slice(1))
      const upgraded = await cluster.get<Named>(kind, 'mirror-entrepot', namespace)
      assert.equal(upgraded.metadata.uid, before.metadata.uid)
      assert.deepEqual(await claims(namespace), cache)
      if (kind === 'StatefulSet') {
        const wanted = claimsOf(await cluster.get<StatefulSet>(kind, 'mirror-entrepot', namespace))
        assert.deepEqual(
          wanted.map(({ metadata }) => metadata.name),
          cache.map(({ metadata }) => metadata.name),
        )
      }
    })
  }

  test('to larger volumes is refused with two commands, and goes through after them', async () => {
    const namespace = 'enlarged'
    const upgrade = ['mirror', CHART_DIRECTORY, '--namespace', namespace, '--set', 'replicas=2']
    const storage = ['--set', 'storage.filesystem.persistence.storageClass=enlargeable']
    await cluster.namespace(namespace)
    await cluster.helm('install', ...upgrade, ...storage)
    await makeClaims(namespace)
    const before = await claims(namespace)
    const larger = [...upgrade, ...storage, '--set', 'storage.filesystem.persistence.size=100Gi']
    const { code, stderr } = await cluster.tryHelm('upgrade', ...larger)
    assert.equal(code, 1)
    assert.match(stderr, /size is 100Gi, but StatefulSet mirror-entrepot has volumes of 50Gi/)
    const [enlarge = '', remove = ''] = stderr.split('\n').filter(line => line.startsWith('kubectl '))
    const ran = await run(['bash', '-c', `set -o pipefail; ${enlarge}`], {
      env: { KUBECONFIG: cluster.kubeconfig },
    })
    assert.equal(ran.code, 0, ran.stderr)
    assert.match(remove, / --cascade=orphan$/)
    await cluster.kubectl(...remove.split(' ').slice(1), '--wait=false')
    // The garbage collector takes this note away, where there is one.
    const free = '{"metadata":{"finalizers":null}}'
    const name = ['statefulset', 'mirror-entrepot', '--namespace', namespace]
    await cluster.kubectl('patch', ...name, '--type=merge', '--patch', free)
    await cluster.helm('upgrade', ...larger)
    const after = await claims(namespace)
    assert.deepEqual(after.map(uidOf), before.map(uidOf))
    assert.match(JSON.stringify(after), /"requests":\{"storage":"100Gi"\}/)
    const same = await cluster.tryHelm('upgrade', ...larger.slice(0, -1), `${SIZE}=102400Mi`)
    assert.equal(same.code, 0, same.stderr)
  })

  const claims = async (namespace: string): Promise<readonly (Named & { readonly spec: object })[]> => {
    const text = await cluster.kubectl('get', 'pvc', '--namespace', namespace, '--output', 'json')
    const { items } = JSON.parse(text) as { readonly items: readonly (Named & { readonly spec: object })[] }
    return items.map(({ metadata: { name, uid = '' }, spec }) => ({ metadata: { name, uid }, spec }))
  }

  /** Does what the controller of StatefulSets does first: makes the claims of each Pod, which get volumes. */
  const makeClaims = async (namespace: string): Promise<void> => {
    for (const claim of claimsOf(
      await cluster.get<StatefulSet>('statefulset', 'mirror-entrepot', namespace),
    )) {
      const made = await cluster.create({ ...claim, metadata: { ...claim.metadata, namespace } })
      assert.equal(made.code, 0, made.stderr)
      const bound = ['--subresource=status', '--type=merge', '--patch', '{"status":{"phase":"Bound"}}']
      await cluster.kubectl('patch', 'pvc', claim.metadata.name, '--namespace', namespace, ...bound)
    }
  }
})

const SIZE = 'storage.filesystem.persistence.size'

const ENLARGEABLE = {
  apiVersion: 'storage.k8s.io/v1',
  kind: 'StorageClass',
  metadata: { name: 'enlargeable' },
  provisioner: 'example.com/disks',
  allowVolumeExpansion: true,
}

/** The claims that the controller makes for a StatefulSet. */
function claimsOf({ metadata, spec }: StatefulSet): readonly (Named & { readonly spec: object })[] {
  const pods = Array.from({ length: spec.replicas }, (_, index) => `${metadata.name}-${index}`)
  return spec.volumeClaimTemplates.flatMap(template =>
    pods.map(pod => ({
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name: `${template.metadata.name}-${pod}`, labels: spec.selector.matchLabels },
      spec: template.spec,
    })),
  )
}

function uidOf({ metadata }: Named): string | undefined {
  return metadata.uid
}
