import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type Finished, run, skipWithout } from '../packaging/rig/tools.ts'
import { CHART_DIRECTORY } from './rig/chart.ts'
import { CLUSTER_PROGRAMS, Cluster } from './rig/cluster.ts'
import { ENTREPOT, type RunningDaemon, startDaemonProcess } from './rig/daemon.ts'

const IN = ['--namespace', 'mirrors'] as const

/** A node as its kubelet registers it. */
function node(name: string, address: string, runtime: string): object {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name },
    status: {
      addresses: [{ type: 'InternalIP', address }],
      conditions: [{ type: 'Ready', status: 'True' }],
      nodeInfo: { ...NODE_INFO, containerRuntimeVersion: runtime },
    },
  }
}

const NODE_INFO = Object.fromEntries(
  [
    'architecture',
    'bootID',
    'kernelVersion',
    'kubeProxyVersion',
    'kubeletVersion',
    'machineID',
    'operatingSystem',
    'osImage',
    'systemUUID',
  ].map(key => [key, 'of the test']),
)

/** A pull that the kubelet of a node reports. */
const PULLED = {
  apiVersion: 'v1',
  kind: 'Event',
  metadata: { name: 'pulled', namespace: 'default' },
  involvedObject: { kind: 'Pod', name: 'app', namespace: 'default' },
  reason: 'Pulled',
  message: 'Successfully pulled image "docker.io/library/alpine:3" in 1.2s (1.2s including waiting)',
  source: { component: 'kubelet', host: 'past' },
  type: 'Normal',
}

describe('doctor --kubernetes with a real API server', { skip: skipWithout(...CLUSTER_PROGRAMS) }, () => {
  let cluster: Cluster
  let daemon: RunningDaemon

  before(async () => {
    cluster = await Cluster.start()
    daemon = await startDaemonProcess(cluster.room)
    for (const made of [
      node('uses', '127.0.0.2', 'containerd://2.1.4'),
      node('past', '127.0.0.3', 'containerd://1.7.28'),
      node('idle', '127.0.0.4', 'cri-o://1.33.1'),
      { ...PULLED, lastTimestamp: new Date(Date.now() + 1000).toISOString().replace(/\.\d+/, '') },
    ]) {
      const { code, stderr } = await cluster.create(made)
      assert.equal(code, 0, stderr)
    }
    await pullFrom('127.0.0.2', 'containerd/v2.1.4')
    await pullFrom('127.0.0.3', 'curl/8.5.0')
  })

  after(async () => {
    await daemon[Symbol.asyncDispose]()
    await cluster[Symbol.asyncDispose]()
  })

  const doctor = async (kubeconfig: string): Promise<Finished> =>
    await run([...ENTREPOT, 'doctor', '--kubernetes', '--kubeconfig', kubeconfig, '--admin', daemon.admin])

  const pullFrom = async (localAddress: string, agent: string): Promise<void> => {
    const [host, port] = daemon.address.split(':')
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const headers = { 'User-Agent': agent }
    request({ host, port, localAddress, path: '/v2/', headers }, response => {
      response.resume().on('end', resolve)
    })
      .on('error', reject)
      .end()
    await promise
  }

  test('a node that pulled, one that pulled past the mirror, and one that did not pull are told apart', async () => {
    const { code, stdout } = await doctor(cluster.kubeconfig)
    assert.match(stdout, /ok +uses \(containerd:\/\/2\.1\.4\) last pulled through the mirror \d+m?s ago\./)
    assert.match(
      stdout,
      /WRONG +past \(containerd:\/\/1\.7\.28\) does not .* it pulled docker\.io\/library\/alpine:3 /,
    )
    assert.match(stdout, /note +idle \(cri-o:\/\/1\.33\.1\) has not pulled through the mirror/)
    assert.match(stdout, /note +No node-config runs/)
    assert.equal(code, 1)
  })

  test('the service account of the chart may do this with doctor.enabled, and without it nothing', async () => {
    await cluster.namespace('mirrors')
    const install = ['mirror', CHART_DIRECTORY, ...IN]
    await cluster.helm('install', ...install)
    const kubeconfig = join(cluster.room, 'of-the-account.yaml')
    const token = (await cluster.kubectl('create', 'token', 'mirror-entrepot', ...IN)).trim()
    const user = { 'current-context': 'a', users: [{ name: 'u', user: { token } }] }
    const server = { server: cluster.url, 'certificate-authority': cluster.caFile }
    const context = { contexts: [{ name: 'a', context: { cluster: 'c', user: 'u' } }] }
    await writeFile(
      kubeconfig,
      JSON.stringify({ ...user, ...context, clusters: [{ name: 'c', cluster: server }] }),
    )
    const refused = await doctor(kubeconfig)
    assert.match(refused.stdout, /WRONG +.*\/api\/v1\/nodes may not be listed with these credentials \(403\)/)
    await cluster.helm('upgrade', ...install, '--set', 'doctor.enabled=true')
    const allowed = await doctor(kubeconfig)
    assert.match(allowed.stdout, /ok +uses /)
    assert.doesNotMatch(allowed.stdout, /403/)
    const secrets = [
      'auth',
      'can-i',
      'list',
      'secrets',
      '--as',
      'system:serviceaccount:mirrors:mirror-entrepot',
    ]
    assert.match((await cluster.tryKubectl(...secrets)).stdout, /^no/)
  })
})
