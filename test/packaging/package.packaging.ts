import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, test } from 'node:test'
import { startUpstream } from '../support/upstream.ts'
import { need, ROOT, run, runOk } from './rig/tools.ts'

let directory: string

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'entrepot-package-'))
  const packed = await runOk([need('npm'), 'pack', '--silent', '--pack-destination', directory])
  await writeFile(join(directory, 'package.json'), '{"private": true}')
  const tarball = join(directory, packed.trim().split('\n').at(-1) ?? '')
  const flags = ['--no-audit', '--no-fund', '--ignore-scripts', '--prefer-offline']
  await runOk([need('npm'), 'install', ...flags, tarball], { cwd: directory, limitMs: 180_000 })
})

after(async () => {
  await rm(directory, { recursive: true })
})

/** Runs the installed program with the Node that runs this test. */
async function entrepot(...words: readonly string[]): ReturnType<typeof run> {
  return await run([process.execPath, join(directory, 'node_modules/.bin/entrepot'), ...words], {
    cwd: directory,
  })
}

test('the packed package installs in an empty directory and checks its configuration', async () => {
  const ran = await entrepot('check', '--listen', '127.0.0.1:0')
  assert.equal(ran.code, 0, ran.stderr)
  assert.match(ran.stdout, /^listen: +127\.0\.0\.1:0 +# --listen$/m)
  const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { version: string }
  assert.equal((await entrepot('--version')).stdout.trim(), version)
})

test('the installed package contains the compiled program, and neither sources nor tests', async () => {
  const installed = join(directory, 'node_modules/entrepot')
  const names = (await readdir(installed)).filter(name => name !== 'node_modules')
  assert.deepEqual(names.toSorted(), [
    'CHANGELOG.md',
    'LICENSE',
    'README.md',
    'bin',
    'dist',
    'package.json',
    'web',
  ])
  const files = await readdir(join(installed, 'dist'), { recursive: true, withFileTypes: true })
  for (const file of files.filter(entry => entry.isFile())) {
    assert.match(file.name, /\.js$|^THIRD-PARTY-NOTICES\.txt$/)
  }
})

test('the installed package has the licences of the packages that it contains, and loads the others', async () => {
  const installed = join(directory, 'node_modules/entrepot')
  const notices = await readFile(join(installed, 'dist/THIRD-PARTY-NOTICES.txt'), 'utf8')
  assert.match(notices, /^zod \d[\d.]+, MIT$/m)
  assert.match(notices, /^prom-client \d[\d.]+, Apache-2\.0$[\s\S]+Version 2\.0, January 2004/m)
  assert.doesNotMatch(notices, /^undici /m)
})

test('the installed program serves, has its index and page, passes healthcheck, and exits with 0 on SIGTERM', {
  timeout: 60_000,
}, async () => {
  const program = join(directory, 'node_modules/.bin/entrepot')
  await using upstream = await startUpstream()
  const image = upstream.putImage({ layers: ['a layer'] })
  const upstreams = join(directory, 'upstreams.json')
  await writeFile(upstreams, JSON.stringify([{ namespace: 'docker.io', host: upstream.host, tls: false }]))
  const flags = ['--workers', '2', '--upstream-config-file', upstreams]
  const listeners = ['--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0']
  const child = spawn(process.execPath, [program, ...listeners, ...flags], {
    cwd: directory,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    let listen = ''
    let admin = ''
    for await (const line of createInterface({ input: child.stdout })) {
      const entry = JSON.parse(line) as Readonly<Record<'msg' | 'listen' | 'adminListen', string | undefined>>
      listen = entry.listen ?? listen
      admin = entry.adminListen ?? admin
      // The thread of the index has an entry file, which must be among the compiled ones.
      if (entry.msg === 'index is up to date with the store') break
    }
    assert.equal((await fetch(`http://${listen}/v2/`)).status, 200)
    const pulled = await fetch(`http://${listen}/v2/team/app/blobs/${image.layers[0]}`)
    assert.equal(await pulled.text(), 'a layer')
    assert.match(await (await fetch(`http://${admin}/`)).text(), /page\.[0-9a-f]{12}\.css/)
    const ready = await fetch(`http://${listen}/readyz`)
    assert.match(await ready.text(), /"status":"ok"/)
    const healthy = await entrepot('healthcheck', '--listen', listen)
    assert.equal(healthy.code, 0, healthy.stderr)
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    assert.deepEqual(await ended, [0, null])
    const dead = await entrepot('healthcheck', '--listen', listen)
    assert.equal(dead.code, 1)
    assert.match(dead.stderr, /does not answer/)
  } finally {
    child.kill('SIGKILL')
  }
})
