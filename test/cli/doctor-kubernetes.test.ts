import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import type { ClusterNode } from '../../src/cli/doctor/cluster.ts'
import { accessByFile, accessOfPod } from '../../src/cli/doctor/cluster-access.ts'
import { type ClusterKnowledge, findingsOf } from '../../src/cli/doctor/cluster-findings.ts'
import { runCommandLine } from './rig.ts'

const NOW = Date.parse('2026-12-01T12:00:00Z')
const NODE: ClusterNode = {
  name: 'one',
  runtime: 'containerd://2.1.4',
  addresses: ['10.0.0.1'],
  podCidrs: ['10.244.1.0/24'],
  isReady: true,
  taints: [],
}

function pull(address: string, userAgent = 'containerd/v2.1.4'): ClusterKnowledge['clients'][number] {
  return { address, userAgent, requests: 3, lastSeen: '2026-12-01T11:57:00.000Z' }
}

const POD = { name: 'config-a', node: 'one', isReady: true, reason: undefined }
const PAST = { node: 'one', image: 'docker.io/library/alpine:3', atMs: NOW - 60_000 }

const CASES: readonly (readonly [string, Partial<ClusterKnowledge>, string, RegExp])[] = [
  [
    'by its address',
    { clients: [pull('10.0.0.1')] },
    'good',
    /^one \(containerd:\/\/2\.1\.4\) last pulled .* 3m ago/,
  ],
  ['by an address of its Pods', { clients: [pull('10.244.1.1')] }, 'good', /last pulled/],
  [
    'not by a Pod that is no runtime',
    { clients: [pull('10.244.1.9', 'skopeo/1.9')] },
    'note',
    /has not pulled/,
  ],
  ['not by another node', { clients: [pull('10.0.0.11')] }, 'note', /nothing says that it pulled at all/],
  ['without rights to read events', { pulls: undefined }, 'note', /whether it pulled at all is not known/],
  [
    'that pulled past the mirror',
    { pulls: [PAST] },
    'wrong',
    /it pulled docker\.io\/library\/alpine:3 1m ago, past/,
  ],
  [
    'that pulled before the mirror started',
    { pulls: [{ ...PAST, atMs: NOW - 9e6 }] },
    'note',
    /has not pulled/,
  ],
  ['that is not ready', { nodes: [{ ...NODE, isReady: false }] }, 'wrong', /the node is not ready/],
  [
    'with an old containerd',
    { nodes: [{ ...NODE, runtime: 'containerd://1.4.13' }] },
    'wrong',
    /reads no hosts\.toml/,
  ],
  [
    'with containerd 1.10',
    { nodes: [{ ...NODE, runtime: 'containerd://1.10.0' }] },
    'note',
    /has not pulled/,
  ],
  ['with dockerd', { nodes: [{ ...NODE, runtime: 'docker://27.1' }] }, 'wrong', /Docker Hub's images only/],
  [
    'without node-config',
    { pods: [{ ...POD, node: 'two' }] },
    'wrong',
    /no Pod of node-config runs on it\.$/,
  ],
  [
    'whose taints keep node-config away',
    { pods: [{ ...POD, node: 'two' }], nodes: [{ ...NODE, taints: ['gpu'] }] },
    'wrong',
    /taints may keep away: gpu/,
  ],
  [
    'whose node-config fails',
    { pods: [{ ...POD, isReady: false, reason: 'ErrImagePull' }] },
    'wrong',
    /its Pod config-a of node-config is not ready: ErrImagePull/,
  ],
]

for (const [what, given, kind, expected] of CASES) {
  test(`the doctor reports as ${kind} a node ${what}`, () => {
    const nothing = { nodes: [NODE], clients: [], sinceMs: NOW - 3_600_000, nowMs: NOW, pods: [], pulls: [] }
    const [finding] = findingsOf({ ...nothing, ...given })
    assert.equal(finding?.kind, kind)
    assert.match(finding?.sentence ?? '', expected)
  })
}

test('runtimes at addresses of no node are named, as their nodes cannot be', () => {
  const known = { nodes: [NODE], sinceMs: 0, nowMs: NOW, pods: [], pulls: [] }
  const found = findingsOf({ ...known, clients: [pull('192.0.2.7'), pull('192.0.2.8', 'curl/8')] })
  assert.match(
    found.at(-1)?.sentence ?? '',
    /addresses of no node: 192\.0\.2\.7 \(containerd\/v2\.1\.4\)\. If/,
  )
})

let room: string

before(async () => {
  room = await mkdtemp(join(tmpdir(), 'entrepot-kubeconfig-'))
})

after(async () => {
  await rm(room, { recursive: true })
})

const CONFIG = {
  'current-context': 'a',
  contexts: [{ name: 'a', context: { cluster: 'c', user: 'u' } }],
  clusters: [{ name: 'c', cluster: { server: 'https://10.0.0.1:6443/', 'certificate-authority': 'ca.pem' } }],
  users: [{ name: 'u', user: { token: 'hunter2' } }],
}

async function kubeconfig(content: object): Promise<string> {
  const file = join(room, 'config')
  await writeFile(file, JSON.stringify(content))
  await writeFile(join(room, 'ca.pem'), 'the CA')
  return file
}

test('a kubeconfig gives the server, its CA beside the file, and the token', async () => {
  assert.deepEqual(await accessByFile(await kubeconfig(CONFIG)), {
    url: 'https://10.0.0.1:6443',
    ca: 'the CA',
    token: 'hunter2',
    certificate: undefined,
  })
})

const BAD: readonly (readonly [string, object, RegExp])[] = [
  [
    'that runs a program',
    { users: [{ name: 'u', user: { exec: { command: 'aws' } } }] },
    /from the program aws/,
  ],
  ['without its context', { contexts: [] }, /has no whole context a/],
  [
    'with another server',
    { clusters: [{ name: 'c', cluster: { server: 'ftp://x' } }] },
    /is no kubeconfig: clusters\.0/,
  ],
  ['that is something else', { users: 'hunter2' }, /is no kubeconfig: users /],
]
for (const [what, change, expected] of BAD) {
  test(`a kubeconfig ${what} is refused with a sentence without secrets`, async () => {
    const refused = accessByFile(await kubeconfig({ ...CONFIG, ...change }))
    await assert.rejects(refused, (error: Error) => {
      assert.match(error.message, expected)
      assert.doesNotMatch(error.message, /hunter/)
      return true
    })
  })
}

test('a Pod reaches its API server by its service account, and is told if it has none', async () => {
  const env = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' }
  await assert.rejects(
    accessOfPod(env, room),
    /ca\.crt is missing: this Pod has no token of its service account/,
  )
  await writeFile(join(room, 'ca.crt'), 'the CA')
  await writeFile(join(room, 'token'), 'hunter2\n')
  const access = await accessOfPod(env, room)
  assert.deepEqual([access.url, access.token], ['https://[fd00::1]:443', 'hunter2'])
})

test('outside of a cluster and without a kubeconfig, doctor --kubernetes says which one to give', async () => {
  const ran = await runCommandLine(['doctor', '--kubernetes'])
  assert.equal(ran.code, 1)
  assert.match(ran.stdout, /WRONG +This is no Pod of a cluster, and no kubeconfig is given/)
})
