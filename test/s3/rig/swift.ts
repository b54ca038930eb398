import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Child, runOk } from '../../clients/rig/child.ts'
import { freePort } from '../../clients/rig/ports.ts'
import type { S3Server } from './bucket.ts'

/** What must be installed: Debian's packages swift-proxy, swift-account, swift-container and swift-object. */
export const SWIFT_PROGRAMS = [
  'swift-proxy-server',
  'swift-account-server',
  'swift-container-server',
  'swift-object-server',
  'swift-ring-builder',
  'setpriv',
]

const STORES = ['account', 'container', 'object'] as const

/**
 * OpenStack's object store behind its s3api, with one device in a temporary directory: an S3 without
 * conditional PUTs.
 */
export async function startSwift(): Promise<S3Server> {
  await using undo = new AsyncDisposableStack()
  const room = await mkdtemp(join(tmpdir(), 'entrepot-swift-'))
  undo.defer(async () => rm(room, { recursive: true, force: true, maxRetries: 5 }))
  await mkdir(join(room, 'devices', 'one'), { recursive: true })
  for (const store of STORES) {
    const port = await freePort()
    await makeRing(room, store, port)
    await writeFile(join(room, `${store}.conf`), storeConfiguration(room, store, port))
    undo.use(new Child(`swift-${store}`, [`swift-${store}-server`, join(room, `${store}.conf`)]))
  }
  const port = await freePort()
  await writeFile(join(room, 'proxy.conf'), proxyConfiguration(room, port))
  const startProxy = (): Child => new Child('swift-proxy', ['swift-proxy-server', join(room, 'proxy.conf')])
  let proxy = startProxy()
  undo.defer(async () => await proxy.stop())
  const endpoint = `http://127.0.0.1:${port}`
  const ready = async (): Promise<void> =>
    await proxy.ready(async () => (await fetch(endpoint)).status < 500, 60_000)
  await ready()
  const owned = undo.move()
  return {
    name: 'Swift',
    endpoint,
    credentials: { accessKeyId: 'entrepot:entrepot', secretAccessKey: 'entrepot-test-secret' },
    kill: async () => await proxy.kill(),
    revive: async () => {
      proxy = startProxy()
      await ready()
    },
    [Symbol.asyncDispose]: async () => owned.disposeAsync(),
  }
}

async function makeRing(room: string, store: string, port: number): Promise<void> {
  const builder = ['swift-ring-builder', join(room, `${store}.builder`)]
  await runOk([...builder, 'create', '2', '1', '1'])
  await runOk([...builder, 'add', `r1z1-127.0.0.1:${port}/one`, '1'])
  await runOk([...builder, 'rebalance'])
}

function common(room: string, port: number): string {
  return `[DEFAULT]
bind_ip = 127.0.0.1
bind_port = ${port}
user = root
swift_dir = ${room}
workers = 0
`
}

function storeConfiguration(room: string, store: string, port: number): string {
  return `${common(room, port)}devices = ${room}/devices
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
[pipeline:main]
pipeline = ${store}-server
[app:${store}-server]
use = egg:swift#${store}
`
}

/** tempauth insists on a cache, and does without an answer from it: nothing listens at the address. */
function proxyConfiguration(room: string, port: number): string {
  return `${common(room, port)}[pipeline:main]
pipeline = catch_errors cache s3api tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:9
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
max_upload_part_num = 10000
[filter:tempauth]
use = egg:swift#tempauth
user_entrepot_entrepot = entrepot-test-secret .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
`
}
