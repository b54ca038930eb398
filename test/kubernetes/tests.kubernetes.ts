import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { skipWithout } from '../packaging/rig/tools.ts'
import { CHART_DIRECTORY } from './rig/chart.ts'
import { CLUSTER_PROGRAMS, Cluster } from './rig/cluster.ts'
import { startDaemonProcess } from './rig/daemon.ts'
import { playPod, serviceAddress } from './rig/pod.ts'

const NAMESPACE = 'tested'
const IN = ['--namespace', NAMESPACE] as const

describe('helm test', { skip: skipWithout(...CLUSTER_PROGRAMS) }, () => {
  let cluster: Cluster

  before(async () => {
    cluster = await Cluster.start()
    await cluster.namespace(NAMESPACE)
    await cluster.helm('install', 'mirror', CHART_DIRECTORY, ...IN, '--set', 'service.port=8080')
  })

  after(async () => {
    await cluster[Symbol.asyncDispose]()
  })

  test('fails while nothing answers at the Service', async () => {
    const [tested] = await Promise.all([
      cluster.tryHelm('test', 'mirror', ...IN, '--timeout', '60s'),
      playPod(cluster, 'mirror-entrepot-test-alive', NAMESPACE),
    ])
    assert.notEqual(tested.code, 0)
    assert.match(tested.stderr, /mirror-entrepot-test-alive failed/)
  })

  test('succeeds if the mirror answers at the Service', async () => {
    const address = await serviceAddress(cluster, 'mirror-entrepot', NAMESPACE)
    await using _mirror = await startDaemonProcess(cluster.room, { address })
    await cluster.kubectl('delete', 'pod', 'mirror-entrepot-test-alive', ...IN, '--force')
    const [tested, played] = await Promise.all([
      cluster.tryHelm('test', 'mirror', ...IN, '--timeout', '60s'),
      playPod(cluster, 'mirror-entrepot-test-alive', NAMESPACE),
    ])
    assert.equal(played.code, 0, played.stderr)
    assert.equal(tested.code, 0, tested.stderr)
    assert.match(tested.stdout, /Phase: +Succeeded/)
  })
})
