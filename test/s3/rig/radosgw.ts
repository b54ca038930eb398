import { randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Child, runOk } from '../../clients/rig/child.ts'
import { freePort } from '../../clients/rig/ports.ts'
import type { S3Server } from './bucket.ts'

/** What must be installed: Debian's packages radosgw, ceph-mon and ceph-osd. */
export const RADOSGW_PROGRAMS = [
  'radosgw',
  'radosgw-admin',
  'ceph-mon',
  'ceph-osd',
  'ceph',
  'monmaptool',
  'setpriv',
]

const CREDENTIALS = { accessKeyId: 'entrepot-test-key', secretAccessKey: 'entrepot-test-secret' }
const MEMORY_BYTES = 8 * 1024 ** 3

/**
 * Ceph's S3: one monitor, one OSD that keeps everything in memory, no manager, and the gateway. cephx stays
 * on: with authentication "none" the gateway never starts.
 */
export async function startRadosgw(): Promise<S3Server> {
  await using undo = new AsyncDisposableStack()
  const room = await mkdtemp(join(tmpdir(), 'entrepot-radosgw-'))
  undo.defer(async () => rm(room, { recursive: true, force: true, maxRetries: 5 }))
  const [monitorPort, gatewayPort] = [await freePort(), await freePort()]
  const fsid = randomUUID()
  const settings = join(room, 'ceph.conf')
  await writeFile(settings, configuration({ room, fsid, monitorPort, gatewayPort }))
  for (const directory of ['mon', 'osd', 'rgw']) await mkdir(join(room, directory))
  await makeKeys(room)

  const map = join(room, 'monmap')
  await runOk(['monmaptool', '--create', '--fsid', fsid, '--addv', 'a', `[v2:127.0.0.1:${monitorPort}]`, map])
  const keyring = join(room, 'keyring')
  await runOk(['ceph-mon', '-c', settings, '-i', 'a', '--mkfs', '--monmap', map, '--keyring', keyring])
  undo.use(new Child('ceph-mon', ['ceph-mon', '-c', settings, '-i', 'a', '-f']))
  const osd = randomUUID()
  await runOk(['ceph', '-c', settings, '--connect-timeout', '30', 'osd', 'create', osd])
  await runOk(['ceph-osd', '-c', settings, '-i', '0', '--mkfs', '--osd-uuid', osd])
  undo.use(new Child('ceph-osd', ['ceph-osd', '-c', settings, '-i', '0', '-f']))
  const startGateway = (): Child =>
    new Child('radosgw', ['radosgw', '-c', settings, '-n', 'client.rgw', '-f'])
  let gateway = startGateway()
  undo.defer(async () => await gateway.stop())
  const { accessKeyId, secretAccessKey } = CREDENTIALS
  const user = ['--uid', 'entrepot', '--display-name', 'entrepot', '--max-buckets', '10000']
  const keys = ['--access-key', accessKeyId, '--secret', secretAccessKey]
  await runOk(['radosgw-admin', '-c', settings, 'user', 'create', ...user, ...keys])
  const endpoint = `http://127.0.0.1:${gatewayPort}`
  const ready = async (): Promise<void> => await gateway.ready(async () => (await fetch(endpoint)).ok, 60_000)
  await ready()
  const owned = undo.move()
  return {
    name: 'radosgw',
    endpoint,
    credentials: CREDENTIALS,
    kill: async () => await gateway.kill(),
    revive: async () => {
      gateway = startGateway()
      await ready()
    },
    [Symbol.asyncDispose]: async () => owned.disposeAsync(),
  }
}

async function makeKeys(room: string): Promise<void> {
  const tool = ['ceph-authtool', join(room, 'keyring')]
  const all = (...names: readonly string[]): readonly string[] =>
    names.flatMap(name => ['--cap', name, 'allow *'])
  await runOk([...tool, '--create-keyring', '--gen-key', '-n', 'mon.', ...all('mon')])
  await runOk([...tool, '--gen-key', '-n', 'client.admin', ...all('mon', 'osd', 'mgr')])
  await runOk([...tool, '--gen-key', '-n', 'osd.0', '--cap', 'mon', 'allow profile osd', ...all('osd')])
  await runOk([
    ...tool,
    '--gen-key',
    '-n',
    'client.rgw',
    '--cap',
    'mon',
    'allow rw',
    '--cap',
    'osd',
    'allow rwx',
  ])
}

function configuration({
  room,
  fsid,
  monitorPort,
  gatewayPort,
}: {
  readonly room: string
  readonly fsid: string
  readonly monitorPort: number
  readonly gatewayPort: number
}): string {
  return `[global]
fsid = ${fsid}
mon initial members = a
mon host = [v2:127.0.0.1:${monitorPort}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = ${room}/keyring
run dir = ${room}
admin socket = ${room}/$name.asok
log file = /dev/null
mon cluster log file = /dev/null
mon data = ${room}/mon
mon data avail crit = 1
mon allow pool size one = true
osd data = ${room}/osd
osd objectstore = memstore
memstore device bytes = ${MEMORY_BYTES}
osd max object name len = 1024
osd max object namespace len = 64
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
rgw data = ${room}/rgw
rgw frontends = beast endpoint=127.0.0.1:${gatewayPort}
rgw thread pool size = 64
rgw run sync thread = false
rgw gc obj min wait = 5
rgw gc processor period = 5
`
}
