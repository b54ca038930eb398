import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { request } from 'node:https'
import { after, before, describe, test } from 'node:test'
import { imagePolicy } from '../../src/admission/image-policy.ts'
import { admissionRules } from '../admission/rules.ts'
import { skipWithout } from '../packaging/rig/tools.ts'
import { ADMISSION_TABLE } from '../support/admission-table.ts'
import { CLUSTER_PROGRAMS, Cluster } from './rig/cluster.ts'

interface Tried {
  readonly status: number
  readonly message: string
}

describe('the policy that entrepot policy prints', { skip: skipWithout(...CLUSTER_PROGRAMS) }, () => {
  let cluster: Cluster
  let ca: Buffer

  before(async () => {
    cluster = await Cluster.start()
    ca = await readFile(cluster.caFile)
    await cluster.kubectl('create', 'serviceaccount', 'default', '--namespace', 'default')
    await cluster.namespace('team-a', 'privileged')
    for (const [index, { section }] of ADMISSION_TABLE.entries()) {
      const name = `case-${index}`
      const [policy, binding] = imagePolicy(admissionRules(section), { name, excluded: [] })
      await created(policy)
      // All policies hold at the same time, each for Pods with its own label.
      const { spec, ...rest } = binding as { readonly spec: object }
      const matchResources = { objectSelector: { matchLabels: { case: name } } }
      await created({ ...rest, spec: { ...spec, matchResources } })
    }
  })

  after(async () => {
    await cluster[Symbol.asyncDispose]()
  })

  const created = async (manifest: object | undefined): Promise<void> => {
    const { code, stderr } = await cluster.create(manifest ?? {})
    assert.equal(code, 0, stderr)
  }

  /** Tries to make a Pod, without making it. */
  const tryPod = async (spec: object, name: string, namespace: string): Promise<Tried> => {
    const { promise, resolve, reject } = Promise.withResolvers<Tried>()
    const path = `/api/v1/namespaces/${namespace}/pods?dryRun=All`
    const headers = { Authorization: `Bearer ${cluster.token}`, 'Content-Type': 'application/json' }
    const asked = request(
      `${cluster.url}${path}`,
      { method: 'POST', ca, headers, agent: false },
      response => {
        response.setEncoding('utf8')
        let text = ''
        response.on('data', piece => {
          text += piece
        })
        response.on('end', () => {
          const { message = '' } = JSON.parse(text) as { readonly message?: string }
          resolve({ status: response.statusCode ?? 0, message })
        })
      },
    )
    asked.on('error', reject)
    const metadata = { name: 'tried', namespace, labels: { case: name } }
    asked.end(JSON.stringify({ apiVersion: 'v1', kind: 'Pod', metadata, spec }))
    return await promise
  }

  const tryImage = async (image: string, name: string, namespace: string): Promise<Tried> =>
    await tryPod({ containers: [{ name: 'web', image }] }, name, namespace)

  /** The API server takes a second or two to compile a policy. */
  const isInForce = async (name: string, namespace: string): Promise<void> => {
    for (let attempt = 0; attempt < 120; attempt += 1) {
      if ((await tryImage('NOT/a-name', name, namespace)).status >= 400 || attempt === 119) return
      const { promise, resolve } = Promise.withResolvers<void>()
      setTimeout(resolve, 250)
      await promise
    }
  }

  for (const [index, { title, allowed, denied, namespace = 'default' }] of ADMISSION_TABLE.entries()) {
    test(title, async () => {
      const name = `case-${index}`
      await isInForce(name, namespace)
      const wrong: string[] = []
      for (const image of allowed) {
        const { status, message } = await tryImage(image, name, namespace)
        if (status !== 201) wrong.push(`${image} should be allowed: ${status} ${message}`)
      }
      for (const image of denied) {
        const { status, message } = await tryImage(image, name, namespace)
        const isByPolicy = message.includes(`'${name}'`) || message.includes('spec.containers[0].image')
        if (status < 400 || !isByPolicy) wrong.push(`${image} should be denied: ${status} ${message}`)
      }
      assert.deepEqual(wrong, [])
    })
  }

  test('every place of an image is looked at, and the message names the image', async () => {
    const good = { name: 'web', image: 'docker.io/library/nginx' }
    const bad = 'evil.example/x'
    const volumes = [{ name: 'data', image: { reference: bad } }]
    for (const spec of [
      { containers: [good], initContainers: [{ name: 'init', image: bad }] },
      { containers: [good], volumes },
    ]) {
      const { message } = await tryPod(spec, 'case-0', 'default')
      assert.match(message, /image evil\.example\/x is refused by the rules/)
    }
  })
})
