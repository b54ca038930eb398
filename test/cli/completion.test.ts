import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { startMirror } from '../support/mirror.ts'
import { startUpstream } from '../support/upstream.ts'
import { runCommandLine } from './rig.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

async function candidates(
  words: readonly string[],
  env: Record<string, string> = {},
): Promise<readonly string[]> {
  const { stdout, code } = await runCommandLine(['complete', ...words], { env })
  assert.equal(code, 0)
  return stdout
    .split('\n')
    .map(line => line.split('\t')[0] ?? '')
    .filter(line => line !== '')
}

for (const [words, expected] of [
  [['sta'], ['status']],
  [['ver'], ['verify', 'verify-image']],
  [['help', 'unp'], ['unpin']],
  [['ls', '--no'], ['--no-trunc']],
  [['ls', '--sort', 'h'], ['hits']],
  [
    ['setup', 'c'],
    ['containerd', 'crio'],
  ],
  [
    ['completion', ''],
    ['bash', 'zsh', 'fish'],
  ],
  [['check', 'f'], ['filesystem']],
  [['--max-s'], ['--max-size']],
  [['nonsense', ''], []],
] as const) {
  test(`"entrepot ${words.join(' ')}" completes to ${expected.join(', ') || 'nothing'}`, async () => {
    assert.deepEqual(await candidates(words), expected)
  })
}

test('names of cached images are completed, in either spelling, and none if no daemon answers', async () => {
  await using upstream = await startUpstream()
  const { manifest } = upstream.putImage({ layers: [] })
  for (const tag of ['3.20', '3.21']) upstream.tag('library/alpine', tag, manifest)
  await using mirror = await startMirror({ upstream: upstream.host })
  for (const tag of ['3.20', '3.21']) await mirror.get(`/v2/library/alpine/manifests/${tag}`)
  const env = { ENTREPOT_ADMIN: `http://${mirror.daemon.addresses.admin}` }
  assert.deepEqual(await candidates(['explain', 'alpine:3.2'], env), ['alpine:3.20', 'alpine:3.21'])
  assert.deepEqual(await candidates(['rm', 'docker.io/library/alpine:3.21'], env), [
    'docker.io/library/alpine:3.21',
  ])
  assert.deepEqual(await candidates(['rm', 'a'], { ENTREPOT_ADMIN: 'unix:/nobody' }), [])
})

test('bash completes a command, a flag, and an image with a colon by the script', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-completion-'))
  t.after(async () => await rm(directory, { recursive: true }))
  const program = join(directory, 'entrepot')
  await writeFile(program, `#!/bin/sh\nexec ${process.execPath} ${MAIN} "$@"\n`)
  await chmod(program, 0o755)
  const { stdout: script } = await runCommandLine(['completion', 'bash'])
  await writeFile(join(directory, 'script'), script)
  const complete = async (line: string, env: Record<string, string> = {}): Promise<readonly string[]> => {
    const code = `. ${directory}/script; COMP_LINE=${JSON.stringify(line)}; COMP_POINT=\${#COMP_LINE}
      COMP_WORDBREAKS=$' \\t\\n:='; _entrepot; printf '%s\\n' "\${COMPREPLY[@]}"`
    const { stdout } = await promisify(execFile)('/bin/bash', ['-c', code], {
      env: { PATH: `${directory}:/usr/bin:/bin`, ...env },
    })
    return stdout.trim().split('\n')
  }
  assert.deepEqual(await complete('entrepot stat'), ['status'])
  assert.deepEqual(await complete('entrepot ls --no'), ['--no-trunc'])
  await using upstream = await startUpstream()
  upstream.tag('library/alpine', '3.20', upstream.putImage({ layers: [] }).manifest)
  await using mirror = await startMirror({ upstream: upstream.host })
  await mirror.get('/v2/library/alpine/manifests/3.20')
  const env = { ENTREPOT_ADMIN: `http://${mirror.daemon.addresses.admin}` }
  assert.deepEqual(await complete('entrepot explain alpine:3', env), ['3.20'])
})

const FISH = '/usr/bin/fish'

test('fish completes a command and a value by the script', { skip: !existsSync(FISH) }, async t => {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-completion-'))
  t.after(async () => await rm(directory, { recursive: true }))
  await writeFile(join(directory, 'entrepot'), `#!/bin/sh\nexec ${process.execPath} ${MAIN} "$@"\n`)
  await chmod(join(directory, 'entrepot'), 0o755)
  const { stdout: script } = await runCommandLine(['completion', 'fish'])
  await writeFile(join(directory, 'script'), script)
  const code = `source ${directory}/script; complete -C "entrepot unp"; complete -C "entrepot ls --sort h"`
  const { stdout } = await promisify(execFile)(FISH, ['--no-config', '-c', code], {
    env: { PATH: `${directory}:/usr/bin:/bin`, HOME: directory },
  })
  assert.match(stdout, /^unpin\tAllow eviction of pinned images again\nhits\n$/)
})

test('help explains a command as --help does, suggests a near one, and every command has examples', async () => {
  const help = await runCommandLine(['help'])
  assert.match(help.stdout, /^A pull-through caching mirror/)
  const commands = await candidates([''])
  for (const command of commands.filter(
    name => !/^(?:serve|check|healthcheck|help|filesystem|s3)$/.test(name),
  )) {
    const { stdout, code } = await runCommandLine(['help', command])
    assert.equal(code, 0, command)
    assert.equal(stdout, (await runCommandLine([command, '--help'])).stdout)
    assert.match(stdout, new RegExp(`\nExamples:\n  entrepot ${command}`), command)
    assert.match(help.stdout, new RegExp(`entrepot .*\\b${command}\\b`), command)
  }
  const wrong = await runCommandLine(['help', 'stauts'])
  assert.deepEqual(
    [wrong.code, wrong.stderr],
    [2, 'entrepot: command line: stauts is not a command (did you mean status?)\n'],
  )
  assert.match((await runCommandLine(['--version'])).stdout, /^\d+\.\d+\.\d+\n$/)
  for (const line of help.stdout.split('\n').filter(text => text.startsWith('entrepot ')))
    assert.ok(line.length <= 110, line)
})
