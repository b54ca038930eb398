import assert from 'node:assert/strict'
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { podReview } from '../../admission/reviews.ts'
import { certificatePath } from '../../support/upstream.ts'
import { runCommandLine } from '../rig.ts'
import { startCommand } from './running.ts'

let directory = ''

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'entrepot-admission-'))
})

after(async () => {
  await rm(directory, { recursive: true })
})

async function isAllowed(address: string, ca: string, image: string): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const [, port] = address.split(':')
  const asked = request(
    {
      host: '127.0.0.1',
      port,
      path: '/validate',
      method: 'POST',
      ca,
      servername: 'gate.ns.svc',
      agent: false,
    },
    response => {
      response.setEncoding('utf8')
      let text = ''
      response.on('data', piece => {
        text += piece
      })
      response.on('end', () => resolve(text))
    },
  )
  asked.on('error', reject)
  asked.end(JSON.stringify(podReview({ spec: { containers: [{ image }] } })))
  const { response } = JSON.parse(await promise) as { response: { allowed: boolean } }
  return response.allowed
}

async function replace(file: string, text: string): Promise<void> {
  await writeFile(`${file}.new`, text)
  await rename(`${file}.new`, file)
}

test('the gate answers by its file, follows its changes, and keeps the old rules when the new ones are wrong', async () => {
  const file = join(directory, 'gate.yaml')
  const self = join(directory, 'self')
  await writeFile(file, 'admission: {default: deny, allow: [nginx]}\n')
  const flags = ['--upstream-config-file', file, '--self-signed', self, '--name', 'gate.ns.svc']
  const gate = startCommand(['admission', '--listen', '127.0.0.1:0', ...flags])
  const { listen, ...rest } = await gate.line('the gate is open')
  assert.deepEqual([rest['mode'], rest['default'], rest['rules']], ['enforce', 'deny', 1])
  const ca = await readFile(join(self, 'ca.crt'), 'utf8')
  const ask = async (image: string): Promise<boolean> => await isAllowed(String(listen), ca, image)
  assert.deepEqual([await ask('nginx'), await ask('redis')], [true, false])
  await replace(file, 'admission: {default: allow, deny: [nginx]}\n')
  await gate.line('rules reloaded')
  assert.deepEqual([await ask('nginx'), await ask('redis')], [false, true])
  await replace(file, 'admission: {default: perhaps}\n')
  await gate.line('rules not reloaded; the old ones stay in force')
  assert.deepEqual([await ask('nginx'), await ask('redis')], [false, true])
  gate.signals.send('SIGHUP')
  await gate.line('certificate reloaded')
  assert.equal(await ask('redis'), true)
  gate.signals.send('SIGTERM')
  assert.equal(await gate.code, 0)
})

const CERTIFICATE = [
  '--tls-cert',
  certificatePath('server.pem'),
  '--tls-key',
  certificatePath('server.key.pem'),
]

const REFUSED: readonly (readonly [readonly string[], string])[] = [
  [[], '--upstream-config-file: is missing'],
  [['--upstream-config-file', 'x.yaml'], '--tls-cert: is missing'],
  [['--upstream-config-file', '/nowhere.yaml', ...CERTIFICATE], '/nowhere.yaml: cannot be read: ENOENT'],
  [['--self-signed', '/x', ...CERTIFICATE], '--self-signed: contradicts --tls-cert'],
  [['--name', 'x', ...CERTIFICATE], '--name: has no effect without --self-signed'],
  [['--listen', 'unix:/x', ...CERTIFICATE], '--listen: is not a TCP address'],
  [['--drain-delay', '5', ...CERTIFICATE], '--drain-delay: is not a duration'],
  [['--log-level', 'loud', ...CERTIFICATE], '--log-level: is not a level'],
  [['now', ...CERTIFICATE], 'now is an unexpected argument'],
]

for (const [flags, sentence] of REFUSED) {
  test(`admission ${flags.slice(0, 2).join(' ')} is refused: ${sentence}`, async () => {
    const { code, stderr } = await runCommandLine(['admission', ...flags])
    assert.equal(code, 2)
    assert.ok(stderr.includes(sentence), stderr)
  })
}

test('a file without the section is refused', async () => {
  const file = join(directory, 'empty.yaml')
  await writeFile(file, 'upstreams: []\n')
  const { code, stderr } = await runCommandLine(['admission', '--upstream-config-file', file, ...CERTIFICATE])
  assert.equal(code, 2)
  assert.match(stderr, /empty\.yaml: has no section admission/)
})
