import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../', import.meta.url))
const COMMAND = join(ROOT, 'bin/entrepot.cjs')

let scratch: string

before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'entrepot-command-'))
})

after(async () => {
  await rm(scratch, { recursive: true })
})

interface Ran {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Arguments of Node that make it give another version as its own. */
async function asVersion(version: string): Promise<readonly string[]> {
  const file = join(scratch, `${version}.cjs`)
  await writeFile(file, `Object.defineProperty(process.versions, 'node', { value: '${version}' })`)
  return ['--require', file]
}

async function runAs(version: string, file: string): Promise<Ran> {
  return spawnSync(process.execPath, [...(await asVersion(version)), file], { encoding: 'utf8' })
}

/** A copy of the command and of what says how new Node must be. */
async function copyOf(name: string, ...folders: readonly string[]): Promise<string> {
  const directory = join(scratch, name)
  await cp(join(ROOT, 'bin'), join(directory, 'bin'), { recursive: true })
  await cp(join(ROOT, 'package.json'), join(directory, 'package.json'))
  for (const folder of folders) await mkdir(join(directory, folder), { recursive: true })
  return directory
}

test('the command runs the sources of a clone', () => {
  const ran = spawnSync(process.execPath, [COMMAND, '--version'], { encoding: 'utf8' })
  assert.equal(ran.status, 0, ran.stderr)
  assert.match(ran.stdout, /^\d+\.\d+\.\d+\n$/)
})

for (const version of ['12.22.9', '18.20.4', '24.14.9']) {
  test(`Node ${version} is told in one sentence that it is too old`, async () => {
    const installed = join(await copyOf(`package-${version}`), 'bin/entrepot.cjs')
    const ran = await runAs(version, installed)
    const sentence = `entrepot: Node.js 24.15.0 or newer is needed, and this is ${version}`
    assert.deepEqual([ran.status, ran.stdout, ran.stderr], [1, '', `${sentence}\n`])
    const cloned = join(await copyOf(`clone-${version}`, 'src'), 'bin/entrepot.cjs')
    const remedy = '; "npm ci", without --ignore-scripts, brings one'
    assert.equal((await runAs(version, cloned)).stderr, `${sentence}${remedy}\n`)
  })
}

test('a Node that is new enough by its minor version starts the program', async () => {
  const directory = await copyOf('new', 'dist')
  await writeFile(join(directory, 'dist/main.js'), "console.log('started')\n")
  for (const version of ['24.15.0', '24.15.1', '25.0.0', '26.10.0'])
    assert.equal((await runAs(version, join(directory, 'bin/entrepot.cjs'))).stdout, 'started\n', version)
})

test('in a clone an old Node hands over to the one that npm ci brought, with arguments, exit code and signals', async () => {
  const directory = await copyOf('handed', 'src', 'node_modules/node/bin')
  await symlink(process.execPath, join(directory, 'node_modules/node/bin/node'))
  const program = `
    const alive = setInterval(() => undefined, 1000)
    process.on('SIGTERM', () => { clearInterval(alive); process.exitCode = 7 })
    console.log(process.argv.slice(2).join(' '))
  `
  await writeFile(join(directory, 'src/main.ts'), program)
  const command = join(directory, 'bin/entrepot.cjs')
  const child = spawn(process.execPath, [...(await asVersion('18.20.4')), command, '--listen', ':0'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  })
  try {
    const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
    assert.equal(line, '--listen :0')
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    assert.deepEqual(await ended, [7, null])
  } finally {
    if (child.exitCode === null) process.kill(-(child.pid ?? 0), 'SIGKILL')
  }
})

test('the documents and the package agree on the oldest Node', async () => {
  const { engines } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as {
    readonly engines: { readonly node: string }
  }
  assert.equal(engines.node, '>=24.15.0')
  for (const file of ['README.md', 'CONTRIBUTING.md', 'docs/deploying.md', 'examples/systemd/README.md']) {
    const text = await readFile(join(ROOT, file), 'utf8')
    const stated = [...text.matchAll(/Node(?:\.js)? (?:≥ )?(2[0-9](?:\.[0-9]+)*)(?= or newer)/g)].map(
      ([, version]) => version,
    )
    assert.deepEqual(
      [...new Set(stated)].filter(version => version !== '20'),
      ['24.15'],
      file,
    )
  }
})

test('git ignores the password file that examples/npm makes', () => {
  const ran = spawnSync('git', ['check-ignore', 'examples/npm/registry-password'], {
    cwd: ROOT,
    encoding: 'utf8',
  })
  assert.equal(ran.status, 0)
})
