import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { lstat, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { removeStaleSocket } from '../../src/cli/stale-socket.ts'

test('the socket that a killed process left is removed; one that is served, and a file, are not', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-socket-'))
  t.after(async () => await rm(directory, { recursive: true, force: true }))
  const stale = join(directory, 'stale')
  const script = `require('net').createServer().listen(${JSON.stringify(stale)}, () => console.log('listening'))`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  child.kill('SIGKILL')
  await once(child, 'exit')
  assert.ok((await lstat(stale)).isSocket())
  await removeStaleSocket(stale)
  await assert.rejects(lstat(stale), { code: 'ENOENT' })
  await removeStaleSocket(stale)

  const served = join(directory, 'served')
  const server = createServer(socket => socket.destroy()).listen(served)
  t.after(() => server.close())
  await once(server, 'listening')
  await removeStaleSocket(served)
  assert.ok((await lstat(served)).isSocket())

  const file = join(directory, 'file')
  await writeFile(file, 'not a socket')
  await removeStaleSocket(file)
  assert.ok((await lstat(file)).isFile())
})
