import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { parse, parseAllDocuments } from 'yaml'
import { ENTRY_KEYS } from '../../src/config/file/entry.ts'
import { runCommandLine } from '../cli/rig.ts'
import { certificatePath } from '../support/upstream.ts'
import { writeSchemas } from './rig/kubernetes-schemas.ts'
import { need, ROOT, run, runOk, skipWithout } from './rig/tools.ts'

const CHART = join(ROOT, 'helm/entrepot')
const KUBE = ['--kube-version', '1.34.0']
const CASES = (await readdir(join(CHART, 'ci'))).map(name => name.replace('-values.yaml', ''))
const EXAMPLES = (await readdir(join(ROOT, 'examples/kubernetes'))).filter(name => name.endsWith('.yaml'))

interface Rendered {
  readonly kind: string
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> }
  readonly spec?: Readonly<Record<string, unknown>>
  readonly stringData?: Readonly<Record<string, string>>
  readonly data?: Readonly<Record<string, string>>
}

/** Renders the chart with files of values and with `--set` flags. */
async function render(files: readonly string[], sets: readonly string[] = []): Promise<readonly Rendered[]> {
  const flags = [...files.flatMap(file => ['--values', file]), ...sets.flatMap(set => ['--set', set])]
  const text = await runOk([
    need('helm'),
    'template',
    'release',
    CHART,
    '--namespace',
    'mirrors',
    ...KUBE,
    ...flags,
  ])
  return parseAllDocuments(text)
    .map(document => document.toJS() as Rendered | null)
    .filter(document => document !== null)
}

function caseFile(name: string): string {
  return join(CHART, 'ci', `${name}-values.yaml`)
}

function ofKind(documents: readonly Rendered[], kind: string): Rendered {
  const found = documents.filter(document => document.kind === kind)
  const [first] = found
  assert.ok(first !== undefined && found.length === 1, `${found.length} of ${kind}`)
  return first
}

interface Pod {
  readonly containers: readonly {
    readonly args: readonly string[]
    readonly env: readonly { readonly name: string; readonly value?: string }[]
    readonly ports: readonly { readonly hostPort?: number; readonly hostIP?: string }[]
    readonly securityContext: object
    readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[]
  }[]
  readonly initContainers?: readonly { readonly name: string; readonly command: readonly string[] }[]
  readonly securityContext: object
  readonly terminationGracePeriodSeconds: number
  readonly volumes?: readonly { readonly name: string }[]
  readonly topologySpreadConstraints?: readonly { readonly labelSelector: object }[]
}

const WORKLOADS = new Set(['StatefulSet', 'Deployment', 'DaemonSet'])

function workload(documents: readonly Rendered[]): {
  readonly kind: string
  readonly pod: Pod
  readonly spec: object
} {
  const found = documents.find(
    ({ kind, metadata }) => WORKLOADS.has(kind) && metadata.name === 'release-entrepot',
  )
  assert.ok(found?.spec !== undefined)
  const { template } = found.spec as { readonly template: { readonly spec: Pod } }
  return { kind: found.kind, pod: template.spec, spec: found.spec }
}

/** Writes a token to a file and returns its path. */
async function tokenFile(mounted: string | undefined): Promise<string> {
  assert.equal(mounted, '/etc/entrepot/admin/token')
  const file = join(await mkdtemp(join(scratch, 'token-')), 'token')
  await writeFile(file, 'of-at-least-sixteen-characters\n')
  return file
}

/** Certificates of the tests in the place of those in the Secrets, if the container has any. */
function certificatesOf(given: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const files = { TLS_CERT: 'server.pem', TLS_KEY: 'server.key.pem', TLS_CLIENT_CA: 'ca.pem' }
  const there = Object.entries(files).filter(([name]) => given[name] !== undefined)
  return Object.fromEntries(there.map(([name, file]) => [name, certificatePath(file)]))
}

let scratch: string

before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'entrepot-chart-'))
})

after(async () => {
  await rm(scratch, { recursive: true })
})

describe('the Helm chart', { skip: skipWithout('helm') }, () => {
  for (const name of CASES) {
    test(`with ${name}, helm lint reports nothing`, async () => {
      const { code, stdout, stderr } = await run([
        need('helm'),
        'lint',
        '--strict',
        CHART,
        ...KUBE,
        '--values',
        caseFile(name),
      ])
      assert.equal(code, 0, `${stdout}${stderr}`)
    })

    test(`with ${name}, the daemon accepts the command line and the environment of its container`, async () => {
      const { pod } = workload(await render([caseFile(name)]))
      const [container] = pod.containers
      assert.ok(container !== undefined)
      const upstreams = container.args.indexOf('--upstream-config-file')
      const argv = upstreams === -1 ? container.args : container.args.toSpliced(upstreams, 2)
      const given = Object.fromEntries(
        container.env.map(({ name, value }) => [name, value ?? 'from-a-secret']),
      )
      const token = await tokenFile(given['ADMIN_TOKEN_FILE'])
      const secret = given['PEER_SECRET_FILE'] === undefined ? {} : { PEER_SECRET_FILE: token }
      const env = { ...given, ...certificatesOf(given), ADMIN_TOKEN_FILE: token, ...secret }
      const ran = await runCommandLine(['check', ...argv], { env })
      assert.equal(ran.code, 0, ran.stderr)
      assert.match(ran.stdout, /^listen: +0\.0\.0\.0:8080 /m)
    })

    test(`with ${name}, secrets are only in Secrets, and pods have no needless rights`, async () => {
      const documents = await render([caseFile(name)])
      for (const document of documents.filter(({ kind }) => kind !== 'Secret'))
        assert.doesNotMatch(JSON.stringify(document), /hunter/)
      const { pod } = workload(documents)
      assert.deepEqual(pod.containers[0]?.securityContext, {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      })
      assert.ok(pod.terminationGracePeriodSeconds > 300)
    })

    test(`with ${name}, a directory of the node is given to the user of the daemon`, async () => {
      const { pod } = workload(await render([caseFile(name)]))
      const hasHostPath = (pod.volumes ?? []).some(volume => 'hostPath' in volume)
      const owners = pod.initContainers?.filter(({ name }) => name === 'own-cache') ?? []
      assert.equal(owners.length, hasHostPath ? 1 : 0)
      const script = owners[0]?.command.at(-1) ?? ''
      if (hasHostPath) assert.match(script, / chown -R 65532:65532 \/var\/lib\/entrepot$/)
    })

    test(`with ${name}, every mounted volume exists`, async () => {
      const { pod, spec } = workload(await render([caseFile(name)]))
      const claims = (spec as { volumeClaimTemplates?: readonly Rendered[] }).volumeClaimTemplates ?? []
      const volumes = [
        ...(pod.volumes ?? []).map(({ name }) => name),
        ...claims.map(({ metadata }) => metadata.name),
      ]
      const mounts = (pod.containers[0]?.volumeMounts ?? []).map(({ name }) => name)
      assert.deepEqual(volumes.toSorted(), mounts.toSorted())
    })
  }

  test('a cache in volumes runs as a StatefulSet, in S3 as a Deployment, on the nodes as a DaemonSet with a host port', async () => {
    assert.equal(workload(await render([])).kind, 'StatefulSet')
    assert.equal(workload(await render([caseFile('s3')])).kind, 'Deployment')
    const nodes = workload(await render([caseFile('nodes')]))
    assert.equal(nodes.kind, 'DaemonSet')
    assert.equal(nodes.pod.containers[0]?.ports[0]?.hostPort, 5050)
    assert.equal(nodes.pod.containers[0]?.ports[0]?.hostIP, '127.0.0.1')
    assert.equal(nodes.pod.topologySpreadConstraints, undefined)
  })

  test('the daemon accepts the upstream file in the Secret', async () => {
    const made = await render([caseFile('filesystem')])
    const secret = made.find(({ metadata }) => metadata.name === 'release-entrepot-upstreams')
    assert.ok(secret !== undefined)
    const entries = parse(secret.stringData?.['upstreams.yaml'] ?? '') as readonly object[]
    assert.equal(entries.length, 2)
    for (const key of entries.flatMap(entry => Object.keys(entry)))
      assert.ok(
        ENTRY_KEYS.some(known => known === key),
        key,
      )
    const file = join(scratch, 'upstreams.yaml')
    const authority = join(ROOT, 'test/support/certificates/ca.pem')
    const text = secret.stringData?.['upstreams.yaml'] ?? ''
    await writeFile(file, text.replace('/etc/entrepot/files/private-ca/ca.pem', authority))
    const ran = await runCommandLine(['check', '--upstream-config-file', file])
    assert.equal(ran.code, 0, ran.stderr)
    assert.match(ran.stdout, /password: +\[redacted\]/)
  })

  test('the Ingress takes its certificate from cert-manager or from the named Secret', async () => {
    const made = ofKind(await render([caseFile('ingress')]), 'Ingress')
    assert.match(JSON.stringify(made.metadata), /"cert-manager\.io\/cluster-issuer":"letsencrypt"/)
    assert.deepEqual(made.spec?.['tls'], [
      { secretName: 'release-entrepot-tls', hosts: ['mirror.example.com'] },
    ])
    const named = await render(
      [caseFile('ingress')],
      ['ingress.tls.secretName=wildcard', 'ingress.tls.certManager.issuer='],
    )
    assert.deepEqual(ofKind(named, 'Ingress').spec?.['tls'], [
      { secretName: 'wildcard', hosts: ['mirror.example.com'] },
    ])
    assert.doesNotMatch(JSON.stringify(ofKind(named, 'Ingress').metadata), /cert-manager/)
  })

  test('the TLS listener gets its certificate from the named Secret or from cert-manager, with the names of the Service', async () => {
    const named = await render([caseFile('tls')])
    const { pod } = workload(named)
    const [container] = pod.containers
    const env = Object.fromEntries(container?.env.map(({ name, value }) => [name, value]) ?? [])
    assert.deepEqual(
      [env['LISTEN_TLS'], env['TLS_CERT'], env['TLS_CLIENT_AUTH']],
      ['0.0.0.0:8443', '/etc/entrepot/tls/tls.crt', 'required'],
    )
    const mounts = container?.volumeMounts.map(({ mountPath }) => mountPath) ?? []
    for (const path of ['/etc/entrepot/tls', '/etc/entrepot/client-ca'])
      assert.ok(mounts.includes(path), path)
    assert.match(JSON.stringify(pod.volumes), /"secretName":"mirror-tls"/)
    assert.ok(!named.some(({ kind }) => kind === 'Certificate'))
    const issued = await render([], ['tls.enabled=true', 'tls.certManager.issuer=internal'])
    const { spec = {} } = ofKind(issued, 'Certificate')
    assert.equal(spec['secretName'], 'release-entrepot-server-tls')
    assert.match(JSON.stringify(spec['dnsNames']), /"release-entrepot\.mirrors\.svc"/)
    assert.match(JSON.stringify(workload(issued).pod.volumes), /"secretName":"release-entrepot-server-tls"/)
    assert.ok(!JSON.stringify(await render([])).includes('LISTEN_TLS'))
  })

  test('the gate gets its certificate from cert-manager, which puts its authority into the webhook', async () => {
    const documents = await render(
      [],
      ['admission.enabled=true', 'admission.tls.certManager.issuer=internal'],
    )
    const { metadata, spec = {} } = ofKind(documents, 'Certificate')
    const service = 'release-entrepot-admission.mirrors.svc'
    assert.deepEqual(spec['dnsNames'], [service])
    assert.deepEqual(spec['issuerRef'], { group: 'cert-manager.io', kind: 'ClusterIssuer', name: 'internal' })
    const secret = String(spec['secretName'])
    const webhook = documents.find(({ kind }) => kind === 'ValidatingWebhookConfiguration')
    assert.ok(webhook !== undefined)
    const text = JSON.stringify(webhook)
    assert.ok(text.includes(`"cert-manager.io/inject-ca-from":"mirrors/${metadata.name}"`))
    assert.ok(text.includes('"name":"release-entrepot-admission","namespace":"mirrors"'))
    assert.ok(!text.includes('caBundle'))
    assert.ok(!documents.some(({ kind, metadata: { name } }) => kind === 'Secret' && name === secret))
    const gate = documents.find(
      ({ kind, metadata: { name } }) => kind === 'Deployment' && name === 'release-entrepot-admission',
    )
    assert.match(JSON.stringify(gate), new RegExp(`"secretName":"${secret}"`))
  })

  test('the admin port is on no Service for clients, and is on loopback without metrics', async () => {
    const services = (await render([])).filter(({ kind }) => kind === 'Service')
    const [main] = services.filter(({ metadata }) => metadata.name === 'release-entrepot')
    const ports = main?.spec?.['ports'] ?? []
    assert.deepEqual(
      (ports as readonly { name: string }[]).map(({ name }) => name),
      ['http'],
    )
    const { pod } = workload(await render([], ['metrics.enabled=false']))
    const admin = pod.containers[0]?.env.find(({ name }) => name === 'ADMIN_LISTEN')
    assert.equal(admin?.value, '127.0.0.1:8081')
  })

  test('two renderings are the same, so that nothing drifts where the cluster cannot be asked', async () => {
    for (const name of CASES) assert.deepEqual(await render([caseFile(name)]), await render([caseFile(name)]))
  })

  test('without a named Secret each pod makes a token for the admin listener that the daemon accepts', async () => {
    const documents = await render([])
    assert.equal(documents.filter(({ kind }) => kind === 'Secret').length, 0)
    const { pod } = workload(documents)
    const [init] = pod.initContainers ?? []
    const directory = await mkdtemp(join(scratch, 'made-'))
    const program = init?.command.at(-1)?.replace('/etc/entrepot/admin/token', join(directory, 'token')) ?? ''
    assert.ok(program.includes(directory))
    await runOk([process.execPath, '--eval', program])
    const token = await readFile(join(directory, 'token'), 'utf8')
    assert.match(token, /^[0-9a-f]{64}\n$/)
    await runOk([process.execPath, '--eval', program])
    assert.equal(await readFile(join(directory, 'token'), 'utf8'), token)
    const env = { ADMIN_LISTEN: '0.0.0.0:8081', ADMIN_TOKEN_FILE: join(directory, 'token') }
    const ran = await runCommandLine(['check'], { env })
    assert.equal(ran.code, 0, ran.stderr)
    const named = workload(await render([], ['admin.existingSecret=theirs'])).pod
    assert.match(JSON.stringify(named.volumes), /"secretName":"theirs"/)
    assert.equal(named.initContainers, undefined)
  })

  const RECREATED: readonly (readonly [string, readonly string[], boolean])[] = [
    ['a claim of its own', [], true],
    ['an existing claim', ['storage.filesystem.persistence.existingClaim=mine'], true],
    ['a directory of the node', ['storage.filesystem.hostPath=/cache'], true],
    ['a claim for many pods', ['storage.filesystem.persistence.accessModes={ReadWriteMany}'], false],
    ['a bucket', ['storage.mode=s3', 'storage.s3.bucket=b'], false],
  ]
  for (const [what, sets, isRecreated] of RECREATED) {
    const order = isRecreated ? 'stops its pod before it starts another' : 'rolls out pod by pod'
    test(`a Deployment over ${what} ${order}`, async () => {
      const { spec } = workload(await render([], ['workload=Deployment', ...sets]))
      assert.equal(JSON.stringify(spec).includes('"type":"Recreate"'), isRecreated)
    })
  }

  test('a disruption budget of no available pod is one', async () => {
    const sets = ['podDisruptionBudget.enabled=true']
    const none = ofKind(
      await render([], [...sets, 'podDisruptionBudget.minAvailable=0']),
      'PodDisruptionBudget',
    )
    assert.equal(none.spec?.['minAvailable'], 0)
    assert.equal(none.spec?.['maxUnavailable'], undefined)
    assert.equal(ofKind(await render([], sets), 'PodDisruptionBudget').spec?.['maxUnavailable'], 1)
  })

  const GRACE = [
    [[], 320],
    [['config.drainTimeout=90s'], 110],
    [['config.drainTimeout=1h 30m'], 5420],
    [['config.drainTimeout=1500ms'], 22],
    [['config.drainDelay=0s', 'config.drainTimeout=90s'], 100],
    [['config.drainTimeout=30s', 'terminationGracePeriodSeconds=60'], 60],
  ] as const
  for (const [sets, seconds] of GRACE) {
    test(`with ${sets.join(' and ') || 'the defaults'} a pod has ${seconds} s to end`, async () => {
      assert.equal(workload(await render([], sets)).pod.terminationGracePeriodSeconds, seconds)
    })
  }

  for (const size of ['40Gi', '40G', '40GB', '40GiB', '80%']) {
    test(`a size of ${size} is accepted by the chart and by the daemon`, async () => {
      const { pod } = workload(await render([], [`storage.filesystem.maxSize=${size}`]))
      const given = pod.containers[0]?.env.find(({ name }) => name === 'MAX_SIZE')?.value ?? ''
      const ran = await runCommandLine(['check'], { env: { MAX_SIZE: given } })
      assert.equal(ran.code, 0, ran.stderr)
    })
  }

  test('keys of the bucket change nothing outside of their Secret, not even by a hash', async () => {
    const [one, other] = await Promise.all(
      ['hunter3', 'hunter4'].map(async key => {
        const documents = await render([caseFile('s3-keys')], [`storage.s3.secretKey=${key}`])
        return documents.filter(({ kind }) => kind !== 'Secret')
      }),
    )
    assert.deepEqual(one, other)
  })

  test('egress goes to no link-local address and no metadata service', async () => {
    const policy = ofKind(await render([], ['networkPolicy.enabled=true']), 'NetworkPolicy')
    const rules = policy.spec?.['egress'] as readonly { to?: readonly { ipBlock?: object }[] }[] | undefined
    assert.deepEqual(
      rules?.[1]?.to?.flatMap(({ ipBlock }) => ipBlock ?? []),
      [
        { cidr: '0.0.0.0/0', except: ['169.254.0.0/16', '100.100.100.200/32'] },
        { cidr: '::/0', except: ['fe80::/10', 'fd00:ec2::254/128'] },
      ],
    )
  })

  test('replicas find each other by a headless Service of ready pods, and only they reach its port', async () => {
    const documents = await render([caseFile('peers')])
    const peers = documents.filter(({ metadata }) => metadata.name === 'release-entrepot-peers')
    const service = ofKind(peers, 'Service')
    assert.equal(service.spec?.['clusterIP'], 'None')
    assert.equal(service.spec?.['publishNotReadyAddresses'], undefined)
    const { pod } = workload(documents)
    const env = new Map(pod.containers[0]?.env.map(({ name, value }) => [name, value]))
    assert.equal(env.get('PEERS_DNS'), 'release-entrepot-peers.mirrors.svc:8082')
    assert.equal(env.get('PEER_CLUSTER'), 'production')
    assert.match(JSON.stringify(pod.volumes), /"secretName":"mirror-peers"/)
    const rules = ofKind(peers, 'NetworkPolicy').spec?.['ingress'] as readonly {
      ports: readonly { port: string }[]
      from?: readonly object[]
    }[]
    const [rule, ...others] = rules
    assert.deepEqual(rule?.ports, [{ port: 'peers' }])
    assert.equal(rule?.from?.length, 1)
    assert.deepEqual(others, [])
    const open = await render([caseFile('peers')], ['networkPolicy.enabled=false'])
    const other = ofKind(open, 'NetworkPolicy').spec?.['ingress'] as typeof rules
    assert.deepEqual(
      other.map(({ ports, from }) => [ports.map(({ port }) => port), from !== undefined]),
      [
        [['peers'], true],
        [['http', 'metrics'], false],
      ],
    )
  })

  const REFUSED: readonly (readonly [string, readonly string[], RegExp])[] = [
    ['a value that is not known', ['replica=2'], /replica/],
    ['a number that is a text', ['replicas=two'], /replicas/],
    ['replicas without a secret', ['peers.enabled=true'], /peers\.existingSecret is required/],
    ['a bucket without a name', ['storage.mode=s3'], /storage\.s3\.bucket is required/],
    ['a DaemonSet over claims', ['workload=DaemonSet'], /a DaemonSet keeps its cache on its node/],
    ['two pods over one claim', ['workload=Deployment', 'replicas=2'], /replicas of one volume need/],
    ['a size that is none', ['storage.filesystem.maxSize=40 apples'], /maxSize/],
    [
      'a grace period that is too short',
      ['terminationGracePeriodSeconds=60'],
      /must be longer than config\.drainDelay and config\.drainTimeout \(310s\)/,
    ],
    [
      'a node port of a ClusterIP',
      ['service.nodePort=30500'],
      /service\.nodePort \(30500\) needs service\.type/,
    ],
    [
      'a traffic policy of a ClusterIP',
      ['service.externalTrafficPolicy=Local'],
      /needs service\.type NodePort/,
    ],
    [
      'source ranges without a load balancer',
      ['service.type=NodePort', 'service.loadBalancerSourceRanges={10.0.0.0/8}'],
      /loadBalancerSourceRanges needs service\.type LoadBalancer/,
    ],
    ['a node port without an address', ['service.type=NodePort', 'service.clusterIP=None'], /clusterIP None/],
    ['one port for both protocols', ['tls.enabled=true', 'service.port=443'], /are both 443/],
    [
      'sections beside a file of upstreams',
      [
        'upstreams.existingSecret=logins',
        'hosted[0].names=docker.io/**',
        'rules[0].who=everyone',
        'rules[0].may=pull',
      ],
      /hosted, rules: this belongs in the file of upstreams\.existingSecret/,
    ],
    [
      'a StatefulSet whose name is too long for its pods',
      [`fullnameOverride=${'n'.repeat(53)}`],
      /longer than the 52 characters of a StatefulSet/,
    ],
    ['an upstream without a host', ['upstreams.entries[0].namespace=docker.io'], /host/],
  ]
  for (const [what, sets, expected] of REFUSED) {
    test(`refused with a reason: ${what}`, async () => {
      const flags = sets.flatMap(set => ['--set', set])
      const { code, stderr } = await run([need('helm'), 'template', 'release', CHART, ...KUBE, ...flags])
      assert.notEqual(code, 0)
      assert.match(stderr, expected)
    })
  }
})

describe('the rendered chart', { skip: skipWithout('helm', 'kubeconform', 'go') }, () => {
  let schemas: string

  before(async () => {
    schemas = await mkdtemp(join(tmpdir(), 'entrepot-schemas-'))
    await writeSchemas(schemas)
  })

  after(async () => {
    await rm(schemas, { recursive: true })
  })

  const conforms = async (flags: readonly string[]): Promise<string> => {
    const text = await runOk([need('helm'), 'template', 'release', CHART, ...KUBE, ...flags])
    const file = join(schemas, 'rendered.yaml')
    await writeFile(file, text)
    const location = `${schemas}/{{.ResourceKind}}{{.KindSuffix}}.json`
    const { stdout, stderr } = await run([
      need('kubeconform'),
      '-summary',
      '-schema-location',
      location,
      file,
    ])
    return `${stdout}${stderr}`
  }

  const files = [...CASES.map(caseFile), ...EXAMPLES.map(name => join(ROOT, 'examples/kubernetes', name))]
  for (const file of files) {
    test(`Kubernetes' own schemas accept the chart rendered with ${file.slice(ROOT.length)}`, async () => {
      assert.match(await conforms(['--values', file]), /Valid: [1-9]\d*, Invalid: 0, Errors: 0, Skipped: 0/)
    })
  }

  test('the schemas refuse a field that Kubernetes does not know', async () => {
    const wrong = await conforms(['--set', 'securityContext.readOnlyRootFileSystem=true'])
    assert.match(wrong, /Invalid: [1-9]/)
  })
})

test('every value of the chart is in its schema, and the schema has no other', async () => {
  const values: unknown = parse(await readFile(join(CHART, 'values.yaml'), 'utf8'))
  const schema: unknown = JSON.parse(await readFile(join(CHART, 'values.schema.json'), 'utf8'))
  assert.deepEqual(
    keysOfSchema(schema).filter(key => key !== 'global'),
    keysOfValues(values),
  )
})

/** Paths of all keys, down to values that the schema leaves open. */
function keysOfSchema(schema: unknown, path = ''): string[] {
  const { properties, additionalProperties } = schema as {
    properties?: object
    additionalProperties?: unknown
  }
  if (properties === undefined || additionalProperties !== false) return [path]
  return Object.entries(properties)
    .flatMap(([key, value]) => keysOfSchema(value, path === '' ? key : `${path}.${key}`))
    .toSorted()
}

const FREE =
  /^(?:livenessProbe|readinessProbe|startupProbe|(?:nodeConfig\.|admission\.)?resources|podSecurityContext|securityContext|metrics\.dashboard\.labels)\b/

function keysOfValues(value: unknown, path = ''): string[] {
  const isMap = typeof value === 'object' && value !== null && !Array.isArray(value)
  if (!isMap || Object.keys(value).length === 0) return [path]
  const free = FREE.exec(path)?.[0]
  if (free === path) return [path]
  return Object.entries(value)
    .flatMap(([key, inner]) => keysOfValues(inner, path === '' ? key : `${path}.${key}`))
    .toSorted()
}
