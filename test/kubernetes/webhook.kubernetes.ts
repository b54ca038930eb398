import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { Child } from '../clients/rig/child.ts'
import { type Finished, skipWithout } from '../packaging/rig/tools.ts'
import { ADMISSION_TABLE } from '../support/admission-table.ts'
import { CHART_DIRECTORY } from './rig/chart.ts'
import { CLUSTER_PROGRAMS, Cluster } from './rig/cluster.ts'
import { ENTREPOT } from './rig/daemon.ts'
import { serviceAddress } from './rig/pod.ts'

const IN = ['--namespace', 'gates'] as const
const GATE = 'mirror-entrepot-admission'
const VALUES = [
  'admission.enabled=true',
  'admission.port=8443',
  'admission.default=deny',
  'admission.allow={docker.io/library/}',
]

interface Kept {
  readonly data: Readonly<Record<string, string>>
}

interface Deployed {
  readonly spec: {
    readonly template: {
      readonly spec: { readonly containers: readonly { readonly args: readonly string[] }[] }
    }
  }
}

interface Webhooks {
  readonly webhooks: readonly { readonly clientConfig: { readonly caBundle: string } }[]
}

describe('the gate that the chart installs, called by a real API server', {
  skip: skipWithout(...CLUSTER_PROGRAMS),
}, () => {
  let cluster: Cluster

  before(async () => {
    cluster = await Cluster.start()
    for (const namespace of ['gates', 'apps']) await cluster.namespace(namespace)
    await helm('install')
  })

  after(async () => {
    await cluster[Symbol.asyncDispose]()
  })

  const helm = async (verb: string, ...more: readonly string[]): Promise<void> => {
    const sets = [...VALUES, ...more].flatMap(set => ['--set', set])
    await cluster.helm(verb, 'mirror', CHART_DIRECTORY, ...IN, ...sets)
  }

  /** Runs the gate as its Pod would: with what the chart made, at the address of its Service. */
  const openGate = async (rules?: string, more: readonly string[] = []): Promise<Child> => {
    await writeFiles(rules)
    const address = await serviceAddress(cluster, GATE, 'gates')
    const { spec } = await cluster.get<Deployed>('deployment', GATE, 'gates')
    const args = spec.template.spec.containers[0]?.args.map(word =>
      word
        .replace(/^\/etc\/entrepot\/(?:gate|tls)\//, `${cluster.room}/`)
        .replace('0.0.0.0:8443', address)
        .replace(/^5s$/, '0s'),
    )
    const gate = new Child('entrepot admission', [...ENTREPOT, ...(args ?? []), ...more])
    await gate.ready(async () => /the gate is open/.test(gate.output()), 60_000)
    return gate
  }

  const writeFiles = async (rules?: string): Promise<void> => {
    const made = await cluster.get<Kept>('configmap', GATE, 'gates')
    const secret = await cluster.get<Kept>('secret', `${GATE}-tls`, 'gates')
    await writeFile(join(cluster.room, 'gate.yaml'), rules ?? made.data['gate.yaml'] ?? '')
    for (const name of ['tls.key', 'tls.crt'])
      await writeFile(join(cluster.room, name), Buffer.from(secret.data[name] ?? '', 'base64'))
  }

  const createPod = async (image: string, namespace = 'apps', dry = true): Promise<Finished> =>
    await cluster.create(pod(dry ? 'tried' : 'judged', image, namespace), dry ? ['--dry-run=server'] : [])

  const authority = async (): Promise<string> => {
    const name = `${GATE}-gates`
    const { webhooks } = await cluster.get<Webhooks>('validatingwebhookconfiguration', name, 'gates')
    return webhooks[0]?.clientConfig.caBundle ?? ''
  }

  test('no Pod is made while the gate is away, except in its own namespace; with Ignore every Pod is', async () => {
    const refused = await createPod('alpine')
    assert.equal(refused.code, 1)
    assert.match(refused.stderr, /failed calling webhook "images\.entrepot\.invalid"/)
    assert.equal((await createPod('alpine', 'gates')).code, 0)
    await helm('upgrade', 'admission.failurePolicy=Ignore')
    assert.equal((await createPod('ghcr.io/acme/app')).code, 0)
    await helm('upgrade')
  })

  test('a Pod is admitted or refused, with the sentence of the gate, and an ephemeral container too', async () => {
    await using _gate = await openGate()
    const refused = await createPod('ghcr.io/acme/app:1')
    assert.equal(refused.code, 1)
    assert.match(
      refused.stderr,
      /admission webhook "images\.entrepot\.invalid" denied the request: .*ghcr\.io\/acme\/app/,
    )
    const made = await createPod('alpine:3', 'apps', false)
    assert.equal(made.code, 0, made.stderr)
    const debug = [
      'debug',
      'judged',
      '--namespace',
      'apps',
      '--image',
      'ghcr.io/acme/tools',
      '--attach=false',
    ]
    const ephemeral = await cluster.tryKubectl(...debug)
    assert.notEqual(ephemeral.code, 0)
    assert.match(ephemeral.stderr, /denied the request: .*ghcr\.io\/acme\/tools/)
    const label = ['label', 'pod', 'judged', '--namespace', 'apps', 'still=allowed']
    await cluster.kubectl(...label)
  })

  test('an upgrade keeps the certificate; after its Secret is removed, a new one is taken up without a restart', async () => {
    const before = await authority()
    await helm('upgrade')
    assert.equal(await authority(), before)
    await using gate = await openGate()
    await cluster.kubectl('delete', 'secret', `${GATE}-tls`, ...IN)
    await helm('upgrade')
    assert.notEqual(await authority(), before)
    await writeFiles()
    await gate.ready(async () => (await createPod('alpine')).code === 0, 60_000)
    assert.equal((await createPod('ghcr.io/acme/app')).code, 1)
  })

  test('images are rewritten to the mirror by /mutate, and judged afterwards by what they stand for', async () => {
    await using _gate = await openGate(undefined, ['--rewrite-to', 'mirror.example.com:8443'])
    const made = await cluster.create(mutating(await authority()))
    assert.equal(made.code, 0, made.stderr)
    const digest = `sha256:${'a'.repeat(64)}`
    const imageOf = async (image: string): Promise<string | undefined> => {
      const { code, stdout, stderr } = await cluster.create(pod('rewritten', image, 'apps'), [
        '--dry-run=server',
        '--output',
        'json',
      ])
      assert.equal(code, 0, stderr)
      const { spec } = JSON.parse(stdout) as { spec: { containers: readonly { image: string }[] } }
      return spec.containers[0]?.image
    }
    const mirrored = 'mirror.example.com:8443/docker.io/library/alpine'
    assert.equal(await imageOf('alpine:3'), `${mirrored}:3`)
    assert.equal(await imageOf(`alpine@${digest}`), `${mirrored}@${digest}`)
    assert.equal(await imageOf(`${mirrored}:3`), `${mirrored}:3`)
    const refused = await createPod('ghcr.io/acme/app:1')
    assert.equal(refused.code, 1)
    assert.match(refused.stderr, /denied the request: .*ghcr\.io\/acme\/app/)
    await cluster.kubectl('delete', 'mutatingwebhookconfiguration', 'rewriting')
  })

  for (const { title, section, allowed, denied, namespace = 'apps' } of ADMISSION_TABLE) {
    test(`the API server gets the verdicts of the table: ${title}`, async () => {
      if (namespace !== 'apps') await cluster.tryKubectl('create', 'namespace', namespace)
      if (namespace !== 'apps')
        await cluster.tryKubectl('create', 'serviceaccount', 'default', '--namespace', namespace)
      const indented = section.replaceAll(/^/gm, '  ')
      await using _gate = await openGate(`admission:\n${indented}\n`)
      const images = [...allowed, ...denied]
      const items = images.map((image, index) => pod(`tried-${index}`, image, namespace))
      const made = await cluster.create({ apiVersion: 'v1', kind: 'List', items }, ['--dry-run=server'])
      const admitted = [...made.stdout.matchAll(/^pod\/tried-(\d+) created/gm)].map(
        ([, index]) => images[Number(index)],
      )
      assert.deepEqual(admitted, allowed, made.stderr)
    })
  }
})

/** The configuration that docs/admission.md tells to write. */
function mutating(caBundle: string): object {
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: { name: 'rewriting' },
    webhooks: [
      {
        name: 'rewrite.entrepot.invalid',
        admissionReviewVersions: ['v1'],
        sideEffects: 'None',
        reinvocationPolicy: 'IfNeeded',
        failurePolicy: 'Fail',
        clientConfig: {
          caBundle,
          service: { name: GATE, namespace: 'gates', path: '/mutate', port: 8443 },
        },
        namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'apps' } },
        rules: [
          {
            apiGroups: [''],
            apiVersions: ['v1'],
            operations: ['CREATE', 'UPDATE'],
            resources: ['pods', 'pods/ephemeralcontainers'],
          },
        ],
      },
    ],
  }
}

function pod(name: string, image: string, namespace: string): object {
  const securityContext = {
    allowPrivilegeEscalation: false,
    runAsNonRoot: true,
    capabilities: { drop: ['ALL'] },
    seccompProfile: { type: 'RuntimeDefault' },
  }
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace },
    spec: { containers: [{ name: 'app', image, securityContext }] },
  }
}
