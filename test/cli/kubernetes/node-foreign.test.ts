import assert from 'node:assert/strict'
import { readdir, readFile, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { RootedFiles } from '../../../src/cli/clients/host-files.ts'
import { Machines, snapshot } from '../machine.ts'
import { type Ran, runCommandLine } from '../rig.ts'

let machines: Machines

before(async () => {
  machines = await Machines.open()
})

after(async () => {
  await machines[Symbol.asyncDispose]()
})

const CERTS = '/etc/containerd/certs.d'
const READS_CERTS = `version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "${CERTS}"\n`

async function writeOnce(root: string): Promise<Ran> {
  const flags = ['--mirror', 'http://mirror:8080', '--registries', 'ghcr.io', '--once']
  return await runCommandLine(['node-config', '--root', root, ...flags])
}

test('what somebody puts into a directory of ours stays in its place, wherever a removal is cut off', async () => {
  for (let cut = 0; cut < 6; cut += 1) {
    const root = await machines.make({ '/etc/containerd/config.toml': READS_CERTS })
    await writeOnce(root)
    const theirs = join(root, CERTS, 'ghcr.io/ca.crt')
    await writeFile(theirs, 'theirs')
    let left = cut
    const files = new RootedFiles(root, '/', () => {
      left -= 1
      if (left < 0) throw new Error('the power fails')
    })
    await files.removeDirectory(`${CERTS}/ghcr.io`, 'hosts.toml').catch(() => undefined)
    assert.equal(await readFile(theirs, 'utf8'), 'theirs')
  }
})

test('a leftover directory with a file of somebody else is not swept', async () => {
  const leftover = `${CERTS}/.entrepot-0123456789ab`
  const root = await machines.make({
    [`${leftover}/hosts.toml`]: '',
    [`${leftover}/ca.crt`]: 'theirs',
    [`${CERTS}/.entrepot-ba9876543210/hosts.toml`]: '',
  })
  await new RootedFiles(root, '/').sweep(CERTS, Date.now() + 3_600_000, 'hosts.toml')
  assert.deepEqual(Object.keys(await snapshot(root)).toSorted(), [
    `${leftover}/ca.crt`,
    `${leftover}/hosts.toml`,
  ])
})

test('a config_path that is not absolute is reported, and nothing is written anywhere', async () => {
  const config = READS_CERTS.replace(CERTS, 'certs.d')
  const root = await machines.make({ '/etc/containerd/config.toml': config })
  const untouched = await snapshot(root)
  const { code, stdout } = await writeOnce(root)
  assert.equal(code, 1)
  assert.match(stdout, /config_path \W*certs\.d\W*, which is not absolute/)
  assert.deepEqual(await snapshot(root), untouched)
})

test('a configuration that cannot be read concerns its runtime alone', async () => {
  const root = await machines.make({ '/etc/docker/daemon.json': '{}', '/etc/containerd/x': '' })
  await symlink('../../../outside.toml', join(root, 'etc/containerd/config.toml'))
  const { code, stdout } = await writeOnce(root)
  assert.equal(code, 1)
  assert.match(stdout, /config\.toml is behind a link that leaves the root/)
  assert.ok((await snapshot(root))['/etc/docker/certs.d/ghcr.io/hosts.toml']?.includes('mirror:8080'))
})

test('a file for CRI-O that is no text stays, and what a crash left beside it goes', async () => {
  const folder = '/etc/containers/registries.conf.d'
  const root = await machines.make({ '/etc/crio/crio.conf': '', [`${folder}/.entrepot-0123456789ab`]: '' })
  const path = join(root, folder, '60-entrepot-node-config.conf')
  await writeFile(path, Buffer.from([0xff, 0xfe]))
  await utimes(join(root, folder, '.entrepot-0123456789ab'), 1, 1)
  const { code } = await writeOnce(root)
  assert.equal(code, 1)
  assert.deepEqual(await readFile(path), Buffer.from([0xff, 0xfe]))
  assert.deepEqual(await readdir(join(root, folder)), ['60-entrepot-node-config.conf'])
})
