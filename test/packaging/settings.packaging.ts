import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { parse, parseAllDocuments } from 'yaml'
import { FLAGS, SETTINGS } from '../../src/config/settings.ts'
import { runCommandLine } from '../cli/rig.ts'
import { need, ROOT, runOk, skipWithout } from './rig/tools.ts'

const CHART = join(ROOT, 'helm/entrepot')
const HOSTED = join(CHART, 'ci/hosted-values.yaml')
const KUBE = ['--kube-version', '1.34.0']

/** Settings without a value of the chart, and why. */
const WITHOUT_A_VALUE: Readonly<Record<string, string>> = {
  TLS_SELF_SIGNED: 'a CA in each pod is one that no client trusts: certificates come from Secrets',
  TLS_NAMES: 'belongs to the one above',
  PEERS: 'the pods find each other by PEERS_DNS',
}

/** Values that no default gives, so that each setting appears. */
const VALUES = [
  'config.workers=2',
  'config.scrubInterval=1d',
  'config.clientRequests=2000',
  'config.clientDownloads=16',
  'config.httpsProxy=http://proxy.example:3128',
  'config.httpProxy=http://proxy.example:3128',
  'config.noProxy=10.0.0.0/8',
  'config.nat64Prefix=2001:db8:64::/96',
  'upstreams.existingSecret=logins',
  'tls.enabled=true',
  'tls.clientCaSecret=client-ca',
  'peers.enabled=true',
  'peers.existingSecret=peers',
]
const FILESYSTEM = ['storage.filesystem.maxSize=40Gi', 'storage.filesystem.minFree=1Gi']
const S3 = [
  'storage.mode=s3',
  'storage.s3.bucket=b',
  'storage.s3.host=https://s3.example.com',
  'storage.s3.redirectHost=https://s3.example.com',
  'storage.s3.prefix=mirror/',
  'storage.s3.existingSecret=keys',
  'storage.s3.pathStyle=true',
]

interface Secret {
  readonly kind?: string
  readonly stringData?: Readonly<Record<string, string>>
}

interface Container {
  readonly args: readonly string[]
  readonly env: readonly { readonly name: string; readonly value?: string }[]
}

/** The container of a workload, with some values. */
async function container(sets: readonly string[], name = 'release-entrepot'): Promise<Container> {
  const flags = sets.flatMap(set => ['--set', set])
  const text = await runOk([need('helm'), 'template', 'release', CHART, ...KUBE, ...flags])
  for (const document of parseAllDocuments(text)) {
    const { metadata, spec } = (document.toJS() ?? {}) as {
      readonly metadata?: { readonly name: string }
      readonly spec?: { readonly template?: { readonly spec: { readonly containers: readonly Container[] } } }
    }
    const found = spec?.template?.spec.containers[0]
    if (found !== undefined && metadata?.name === name) return found
  }
  throw new Error('the chart has no workload')
}

describe('the values of the chart', { skip: skipWithout('helm') }, () => {
  test('set every setting of the daemon, or it is said why not', async () => {
    const both = [await container([...VALUES, ...FILESYSTEM]), await container([...VALUES, ...S3])]
    const given = new Set(both.flatMap(({ env }) => env.map(({ name }) => name)))
    assert.ok(both.every(({ args }) => args.includes('--upstream-config-file')))
    const settings: readonly string[] = FLAGS.map(flag => SETTINGS[flag])
      .filter(({ group }) => group !== 'compatibility')
      .map(({ environment }) => environment)
      .filter(name => name !== 'UPSTREAM_CONFIG_FILE')
    const missing = settings.filter(name => !given.has(name) && WITHOUT_A_VALUE[name] === undefined)
    assert.deepEqual(missing, [])
    const unknown = [...given].filter(name => !settings.includes(name))
    assert.deepEqual(unknown, [])
  })

  test('become an upstream file that the daemon accepts, with all its sections', async () => {
    const text = await runOk([need('helm'), 'template', 'release', CHART, ...KUBE, '--values', HOSTED])
    const made = parseAllDocuments(text).map(document => (document.toJS() ?? {}) as Secret)
    const file = made.find(({ kind }) => kind === 'Secret')?.stringData?.['upstreams.yaml'] ?? ''
    assert.deepEqual(Object.keys(parse(file) as object).toSorted(), [
      'auth',
      'hosted',
      'notifications',
      'policies',
      'rules',
      'upstreams',
      'warm',
    ])
    const directory = await mkdtemp(join(tmpdir(), 'entrepot-settings-'))
    try {
      await mkdir(join(directory, 'mirror-users'))
      await mkdir(join(directory, 'hooks'))
      await writeFile(join(directory, 'mirror-users/htpasswd'), `ci:$2b$10$${'a'.repeat(53)}\n`)
      await writeFile(join(directory, 'hooks/key'), 'a key of an endpoint\n')
      const path = join(directory, 'upstreams.yaml')
      await writeFile(path, file.replaceAll('/etc/entrepot/files', directory))
      const ran = await runCommandLine(['check', '--upstream-config-file', path])
      assert.equal(ran.code, 0, ran.stderr)
    } finally {
      await rm(directory, { recursive: true })
    }
  })

  test('bring the mirror to a node by the arguments of node-config, at the port of the release', async () => {
    const sets = ['nodeConfig.enabled=true', 'nodeConfig.registries={ghcr.io}', 'hostPort.enabled=true']
    const { args } = await container(sets, 'release-entrepot-node-config')
    const root = await mkdtemp(join(tmpdir(), 'entrepot-node-'))
    try {
      await mkdir(join(root, 'etc/containerd'), { recursive: true })
      await writeFile(join(root, 'etc/containerd/config.toml'), 'version = 3\n')
      const once = args.map(word => word.replace(/^\/host$/, root).replace('--remove-on-exit', '--once'))
      const ran = await runCommandLine(once)
      const written = await readFile(join(root, 'etc/containerd/certs.d/ghcr.io/hosts.toml'), 'utf8')
      assert.match(written, /http:\/\/127\.0\.0\.1:5050/, ran.stderr)
    } finally {
      await rm(root, { recursive: true })
    }
  })

  test('give node-config the login of a Secret and the certificate of the node, each whole or not at all', async () => {
    const enabled = ['nodeConfig.enabled=true', 'nodeConfig.mirror=https://mirror.example']
    const login = ['nodeConfig.username=node', 'nodeConfig.passwordSecret=robot']
    const certificate = ['nodeConfig.clientCert=/etc/n.pem', 'nodeConfig.clientKey=/etc/n.key']
    const name = 'release-entrepot-node-config'
    const { args } = await container([...enabled, ...login, ...certificate], name)
    const words = args.join(' ')
    assert.match(
      words,
      /--client-cert \/etc\/n\.pem --client-key \/etc\/n\.key --username node --password-file/,
    )
    for (const half of [...login, ...certificate])
      await assert.rejects(container([...enabled, half], name), /belong together/)
  })

  test('without an address of the mirror for nodes, node-config is refused with a sentence', async () => {
    await assert.rejects(container(['nodeConfig.enabled=true']), /nodeConfig\.mirror is required/)
  })
})
