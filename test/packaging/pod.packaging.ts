import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { digestOf } from '../../src/oci/digest.ts'
import { Child } from '../clients/rig/child.ts'
import { freePort } from '../clients/rig/ports.ts'
import { startUpstream } from '../support/upstream.ts'
import { renderPod } from './rig/rendered-pod.ts'
import { ROOT, runOk, skipWithout } from './rig/tools.ts'

const ENTREPOT = [process.execPath, join(ROOT, 'bin/entrepot.cjs')]

describe('the Pod of the chart, started as a kubelet would', { skip: skipWithout('helm') }, () => {
  test('it pulls through its upstream, answers its probes, and keeps its content for the next Pod', async () => {
    await using upstream = await startUpstream()
    const image = upstream.putImage({ layers: ['a layer'] })
    upstream.tag('team/app', 'v1', image.manifest)
    const room = await mkdtemp(join(tmpdir(), 'entrepot-pod-'))
    await using _ = { [Symbol.asyncDispose]: async () => await rm(room, { recursive: true, force: true }) }
    const port = await freePort()
    const admin = await freePort()
    const entry = ['namespace=docker.io', `host=${upstream.host}`, 'tls=false']
    const sets = [...entry.map(set => `upstreams.entries[0].${set}`), 'config.drainDelay=0s']
    const listen = (word: string): string =>
      word.replace('0.0.0.0:8080', `127.0.0.1:${port}`).replace('0.0.0.0:8081', `127.0.0.1:${admin}`)
    const { init, main, probes } = await renderPod(room, sets, listen)
    assert.ok(init.length > 0)
    for (const { argv, env } of init)
      await runOk([process.execPath, ...argv.slice(argv[0] === 'node' ? 1 : 0)], { env })
    const url = `http://127.0.0.1:${port}`
    const start = async (): Promise<Child> => {
      const child = new Child('entrepot', [...ENTREPOT, ...main.argv], { env: main.env })
      await child.ready(async () => (await fetch(`${url}/readyz`)).ok, 60_000)
      return child
    }
    const pull = async (path: string): Promise<string> => {
      const response = await fetch(`${url}/v2/team/app/${path}`)
      assert.equal(response.status, 200, path)
      return digestOf(Buffer.from(await response.arrayBuffer()))
    }
    const first = await start()
    for (const path of probes) assert.equal((await fetch(`${url}${path}`)).status, 200, path)
    assert.equal(await pull('manifests/v1'), image.manifest)
    for (const digest of [image.config, ...image.layers]) assert.equal(await pull(`blobs/${digest}`), digest)
    await first.stop()
    const asked = upstream.requests.length
    await using _second = await start()
    for (const digest of [image.config, ...image.layers]) assert.equal(await pull(`blobs/${digest}`), digest)
    assert.equal(upstream.requests.length, asked)
  })
})
