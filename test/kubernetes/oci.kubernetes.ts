import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { hash } from 'bcryptjs'
import { parse } from 'yaml'
import { skipWithout } from '../packaging/rig/tools.ts'
import { CHART_DIRECTORY } from './rig/chart.ts'
import { CLUSTER_PROGRAMS, Cluster } from './rig/cluster.ts'
import { type RunningDaemon, startDaemonProcess } from './rig/daemon.ts'

const NAMESPACE = 'from-our-registry'
const PASSWORD = 'of the porter'
const { version } = parse(await readFile(join(CHART_DIRECTORY, 'Chart.yaml'), 'utf8')) as { version: string }

describe('the chart as an OCI artifact in our own registry', {
  skip: skipWithout(...CLUSTER_PROGRAMS),
}, () => {
  let cluster: Cluster
  let daemon: RunningDaemon
  let charts: string

  before(async () => {
    cluster = await Cluster.start()
    await cluster.namespace(NAMESPACE)
    const users = join(cluster.room, 'htpasswd')
    await writeFile(users, `porter:${await hash(PASSWORD, 4)}\n`)
    daemon = await startDaemonProcess(cluster.room, {
      sections: {
        auth: { htpasswd_file: users },
        hosted: [{ names: 'registry.example.com/**' }],
        rules: [
          { who: 'porter', names: 'registry.example.com/**', may: ['pull', 'push'] },
          { who: 'everyone', names: 'registry.example.com/charts/**', may: 'pull' },
        ],
      },
    })
    charts = `oci://${daemon.address}/registry.example.com/charts`
    await cluster.helm('package', CHART_DIRECTORY, '--destination', cluster.room)
  })

  after(async () => {
    await daemon[Symbol.asyncDispose]()
    await cluster[Symbol.asyncDispose]()
  })

  const packed = (): string => join(cluster.room, `entrepot-${version}.tgz`)

  test('is not pushed by a client without a login', async () => {
    const { code, stderr } = await cluster.tryHelm('push', packed(), charts, '--plain-http')
    assert.notEqual(code, 0)
    assert.match(stderr, /unauthorized|denied|401|403/i)
  })

  test('is pushed with a login, and installed and upgraded from there under the digest of the push', async () => {
    const login = ['--username', 'porter', '--password', PASSWORD, '--plain-http']
    await cluster.tryHelm('registry', 'login', daemon.address, ...login)
    const pushed = await cluster.tryHelm('push', packed(), charts, '--plain-http')
    assert.equal(pushed.code, 0, pushed.stderr)
    const [digest] = /sha256:[0-9a-f]{64}/.exec(pushed.stdout + pushed.stderr) ?? []
    assert.ok(digest !== undefined, pushed.stderr)
    await cluster.tryHelm('registry', 'logout', daemon.address)
    const chart = [`${charts}/entrepot`, '--version', version, '--plain-http', '--namespace', NAMESPACE]
    const installed = await cluster.tryHelm('install', 'mirror', ...chart)
    assert.equal(installed.code, 0, installed.stderr)
    assert.ok(`${installed.stdout}${installed.stderr}`.includes(digest), installed.stderr)
    const upgraded = await cluster.tryHelm('upgrade', 'mirror', ...chart, '--set', 'config.workers=2')
    assert.equal(upgraded.code, 0, upgraded.stderr)
    await cluster.get('statefulset', 'mirror-entrepot', NAMESPACE)
  })
})
