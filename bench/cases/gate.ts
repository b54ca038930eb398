import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { json } from 'node:stream/consumers'
import { freePort } from '../../test/clients/rig/ports.ts'
import type { Bench, Case } from '../bench.ts'
import { MAIN } from '../entrepot.ts'
import type { Results } from '../results.ts'
import type { Room, Started } from '../room.ts'
import { runWrk } from '../wrk.ts'

const ENTRIES = 100

/** Reviews that are sent over and over, each with its verdict. */
const LOADS = [
  { name: '3 containers, one review at a time', containers: 3, connections: 1, isAllowed: true },
  { name: '3 containers, 16 reviews at once', containers: 3, connections: 16, isAllowed: true },
  { name: '3 containers, refused, one at a time', containers: 3, connections: 1, isAllowed: false },
  { name: '100 containers, one review at a time', containers: 100, connections: 1, isAllowed: true },
] as const

/** The answers of the gate of a Kubernetes cluster. */
export const GATE_CASES: readonly Case[] = [
  {
    name: 'gate',
    title: `Reviews of Pods by the gate of a cluster, over TLS, with ${2 * ENTRIES} entries`,
    columns: ['requestsPerSecond', 'p50Ms', 'p99Ms', 'clientCores'],
    comparisons: [],
    run: runGate,
  },
]

async function runGate(bench: Bench, results: Results): Promise<void> {
  const { room, options } = bench
  const { child, address } = await startGate(room)
  await using _ = child
  for (let round = 1; round <= options.rounds; round += 1) {
    for (const { name, containers, connections, isAllowed } of LOADS) {
      bench.progress(`gate, round ${round}: ${name}`)
      const body = reviewOf(containers, isAllowed ? 'good' : 'bad')
      assert.equal(await verdictOf(room, address, body), isAllowed)
      const { requests, seconds, clientCpuSeconds, p50Ms, p99Ms } = await runWrk(room, {
        address,
        isEncrypted: true,
        paths: ['/validate'],
        headers: { 'content-type': 'application/json' },
        body,
        connections,
        seconds: options.seconds,
      })
      assert.ok(p50Ms !== undefined && p99Ms !== undefined)
      const rates = { requestsPerSecond: requests / seconds, clientCores: clientCpuSeconds / seconds }
      results.add('gate', name, { ...rates, p50Ms, p99Ms })
    }
  }
}

async function startGate(room: Room): Promise<Started> {
  const file = room.path('gate.yaml')
  const numbers = Array.from({ length: ENTRIES }, (_, index) => index)
  const admission = {
    default: 'deny',
    allow: numbers.map(index => `ghcr.io/good-${index}/**`),
    deny: numbers.map(index => ({ names: `ghcr.io/good-${index}/old`, reason: 'it is too old' })),
  }
  // JSON is YAML.
  await writeFile(file, JSON.stringify({ admission }))
  const address = `127.0.0.1:${await freePort()}`
  const tls = ['--self-signed', room.path('gate'), '--name', 'localhost']
  const argv = ['admission', '--listen', address, '--upstream-config-file', file, ...tls]
  const child = room.start('gate', [process.execPath, MAIN, ...argv])
  await child.ready(async () => await verdictOf(room, address, reviewOf(1, 'good')))
  return { child, address }
}

function reviewOf(containers: number, team: 'good' | 'bad'): string {
  const images = Array.from({ length: containers }, (_, index) => ({
    name: `c${index}`,
    image: `ghcr.io/${team}-${index % ENTRIES}/app-${index}:1.${index}`,
  }))
  const request = {
    uid: '705ab4f5-6393-11e8-b7cc-42010a800002',
    kind: { group: '', version: 'v1', kind: 'Pod' },
    resource: { group: '', version: 'v1', resource: 'pods' },
    name: 'app',
    namespace: 'default',
    operation: 'CREATE',
    userInfo: { username: 'bench' },
    object: { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'app' }, spec: { containers: images } },
  }
  return JSON.stringify({ apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', request })
}

/** The gate's verdict, by a connection that checks its certificate. */
async function verdictOf(room: Room, address: string, body: string): Promise<boolean> {
  const ca = await readFile(room.path('gate', 'ca.crt'))
  const [host, port] = address.split(':')
  const headers = { 'content-type': 'application/json' }
  const to = { host, port, path: '/validate', method: 'POST', servername: 'localhost', ca, headers }
  return await new Promise((resolve, reject) => {
    const sent = request({ ...to, agent: false }, response => {
      json(response).then(
        answer => resolve((answer as { response: { allowed: boolean } }).response.allowed),
        reject,
      )
    })
    sent.once('error', reject).end(body)
  })
}
