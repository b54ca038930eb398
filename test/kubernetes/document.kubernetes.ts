import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { ROOT, run, skipWithout } from '../packaging/rig/tools.ts'
import { CLUSTER_PROGRAMS, Cluster } from './rig/cluster.ts'

/** Commands that need Docker, nodes or a running Pod, which other suites and tests have. */
const ELSEWHERE =
  /^(?:docker|curl|kubectl exec|helm test|export|helm push|helm install mirror oci:|helm package)/

const DOCUMENT = await readFile(join(ROOT, 'docs/kubernetes.md'), 'utf8')

const COMMANDS = [...DOCUMENT.matchAll(/```sh\n(.*?)```/gs)]
  .flatMap(([, block = '']) => block.trimEnd().split('\n'))
  .filter(command => !ELSEWHERE.test(command))

describe('docs/kubernetes.md on a real API server', {
  skip: skipWithout(...CLUSTER_PROGRAMS, 'bash'),
}, () => {
  let cluster: Cluster

  before(async () => {
    cluster = await Cluster.start()
    // A controller makes it, where there are controllers.
    await cluster.kubectl('create', 'serviceaccount', 'default')
  })

  after(async () => {
    await cluster[Symbol.asyncDispose]()
  })

  test('every command for the API server works, in the order of the page', async () => {
    assert.ok(COMMANDS.length >= 4, String(COMMANDS))
    const env = { KUBECONFIG: cluster.kubeconfig, REGISTRY: 'registry.example.com/infra' }
    for (const command of COMMANDS) {
      const { code, stderr } = await run(['bash', '-c', command], { env })
      assert.equal(code, 0, `${command}: ${stderr}`)
    }
  })

  test('the workload that its commands look into exists', async () => {
    const executed = [...DOCUMENT.matchAll(/kubectl exec --namespace (\S+) (\S+) -- entrepot/g)]
    assert.ok(executed.length >= 3)
    for (const [, namespace = '', workload = ''] of executed)
      await cluster.kubectl('get', workload, '--namespace', namespace)
  })
})
