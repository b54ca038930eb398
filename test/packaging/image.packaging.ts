import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  copyFile,
  cp,
  mkdir,
  mkdtemp,
  readFile,
  realpath,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { find, need, ROOT, run, runOk, skipWithout } from './rig/tools.ts'

const PROGRAMS = ['dockerd', 'docker', 'containerd', 'runc', 'busybox', 'npm', 'ldd', 'umount']
const ROOT_NEEDED = process.getuid?.() === 0 ? false : 'this needs root'

describe('the image', { skip: skipWithout(...PROGRAMS) || ROOT_NEEDED }, () => {
  let directory: string
  let daemon: ChildProcess
  let output = ''
  const docker = (...words: readonly string[]): readonly string[] => [
    need('docker'),
    '--host',
    `unix://${directory}/docker.sock`,
    ...words,
  ]

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'entrepot-image-'))
    daemon = await startDockerd(directory, text => {
      output = `${output}${text}`.slice(-10_000)
    })
    await until(
      async () => (await run(docker('info'))).code === 0,
      () => output,
    )
    await importBase(directory, docker)
    // The build uses the proxies of this machine. These arguments leave no trace in an image.
    const proxies = ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'http_proxy', 'https_proxy', 'no_proxy']
    const args = [
      'BASE=base:test',
      'REVISION=of-a-test',
      ...proxies.filter(name => process.env[name] !== undefined),
    ]
    const flags = ['--network', 'host', ...args.flatMap(arg => ['--build-arg', arg])]
    await runOk(docker('build', ...flags, '--tag', 'entrepot:test', ROOT), { limitMs: 240_000 })
  })

  after(async () => {
    if (daemon.exitCode === null) {
      const ended = once(daemon, 'exit')
      daemon.kill('SIGTERM')
      await ended
    }
    // dockerd leaves its network namespace mounted.
    await run([need('umount'), join(directory, 'exec/netns/default')])
    await rm(directory, { recursive: true, force: true })
  })

  test('it has labels, an unprivileged user and SIGTERM as its stop signal', async () => {
    const [image] = JSON.parse(await runOk(docker('image', 'inspect', 'entrepot:test'))) as readonly {
      readonly Config: {
        readonly User: string
        readonly StopSignal: string
        readonly Labels: Readonly<Record<string, string>>
        readonly Volumes: object
      }
    }[]
    assert.equal(image?.Config.User, '65532:65532')
    assert.equal(image.Config.StopSignal, 'SIGTERM')
    assert.deepEqual(Object.keys(image.Config.Volumes), ['/var/lib/entrepot'])
    assert.equal(image.Config.Labels['org.opencontainers.image.title'], 'Entrepot')
    assert.equal(image.Config.Labels['org.opencontainers.image.revision'], 'of-a-test')
    const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { version: string }
    assert.equal(image.Config.Labels['org.opencontainers.image.version'], version)
  })

  test('it contains neither development dependencies nor sources', async () => {
    const shell = ['run', '--rm', '--network', 'none', '--entrypoint', '/bin/sh', 'entrepot:test', '-c']
    const names = (await runOk(docker(...shell, 'ls /entrepot /entrepot/node_modules'))).split('\n')
    for (const name of ['typescript', 'knip', '@biomejs', 'node', 'src'])
      assert.ok(!names.includes(name), name)
    assert.ok(names.includes('undici') && names.includes('dist'))
  })

  test('with a read-only root and no capability it serves, caches, is healthy, and exits with 0', async () => {
    const port = await freePort()
    const confined = [
      '--read-only',
      '--cap-drop',
      'ALL',
      '--security-opt',
      'no-new-privileges',
      '--network',
      'host',
    ]
    const health = ['--health-interval', '1s', '--health-start-period', '1s']
    const env = [
      '--env',
      `LISTEN=127.0.0.1:${port}`,
      '--env',
      'ADMIN_LISTEN=unix:/var/lib/entrepot/admin.sock',
    ]
    const words = ['run', '--detach', ...confined, ...health, ...env, 'entrepot:test', 'filesystem']
    const id = (await runOk(docker(...words))).trim()
    const inspect = async (format: string): Promise<string> => {
      return (await runOk(docker('inspect', '--format', format, id))).trim()
    }
    const logs = async (): Promise<string> => JSON.stringify(await run(docker('logs', id)))
    await until(async () => (await inspect('{{.State.Health.Status}}')) === 'healthy', logs)
    assert.equal((await fetch(`http://127.0.0.1:${port}/v2/`)).status, 200)
    const ready = await fetch(`http://127.0.0.1:${port}/readyz`)
    assert.match(await ready.text(), /"status":"ok"/)
    const status = await run(docker('exec', id, 'entrepot', 'status'))
    assert.equal(status.code, 0, `${status.stdout}${status.stderr}`)
    await runOk(docker('stop', id))
    assert.equal(await inspect('{{.State.ExitCode}}'), '0', await logs())
  })
})

/** Starts a Docker daemon of the test's own without networks: containers share the machine's. */
async function startDockerd(directory: string, said: (text: string) => void): Promise<ChildProcess> {
  const file = join(directory, 'daemon.json')
  const config = {
    'data-root': join(directory, 'data'),
    'exec-root': join(directory, 'exec'),
    pidfile: join(directory, 'pid'),
    hosts: [`unix://${directory}/docker.sock`],
    iptables: false,
    bridge: 'none',
  }
  await writeFile(file, JSON.stringify(config))
  // Debian's runc and containerd-shim come first, whatever npm has put into PATH.
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }
  const child = spawn(need('dockerd'), ['--config-file', file], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => said(String(chunk)))
  return child
}

/**
 * Makes an image like `node:26-slim` from this machine: the Node that runs this test, npm, the libraries of
 * Node, and a shell.
 */
async function importBase(
  directory: string,
  docker: (...words: readonly string[]) => readonly string[],
): Promise<void> {
  const root = join(directory, 'base')
  const put = async (from: string, to: string): Promise<void> => {
    await mkdir(dirname(join(root, to)), { recursive: true })
    await copyFile(from, join(root, to))
  }
  await put(process.execPath, '/usr/bin/node')
  const libraries = await runOk([need('ldd'), process.execPath])
  for (const [, library = ''] of libraries.matchAll(/(?:=> |^\s*)(\/\S+) \(/gm)) await put(library, library)
  await put(need('busybox'), '/bin/busybox')
  await runOk([join(root, 'bin/busybox'), '--install', '-s', join(root, 'bin')])
  for (const applet of ['sh', 'ls', 'rm', 'find', 'mkdir', 'env']) {
    await rm(join(root, 'bin', applet), { force: true })
    await symlink('busybox', join(root, 'bin', applet))
  }
  await symlink('../../bin/busybox', join(root, 'usr/bin/env'))
  const npm = dirname(dirname(await realpath(need('npm'))))
  await cp(npm, join(root, 'usr/lib/node_modules/npm'), { recursive: true })
  await symlink('../lib/node_modules/npm/bin/npm-cli.js', join(root, 'usr/bin/npm'))
  const settings = (await runOk([need('npm'), 'config', 'get', 'globalconfig'])).trim()
  if (await exists(settings)) await put(settings, '/usr/etc/npmrc')
  const authorities = '/etc/ssl/certs/ca-certificates.crt'
  if (await exists(authorities)) await put(authorities, authorities)
  await mkdir(join(root, 'tmp'), { mode: 0o777 })
  await put('/etc/passwd', '/etc/passwd')
  const tar = join(directory, 'base.tar')
  await runOk([find('tar') ?? 'tar', '--create', '--file', tar, '--directory', root, '--numeric-owner', '.'])
  const registry = (await runOk([need('npm'), 'config', 'get', 'registry'])).trim()
  const env = [
    'PATH=/usr/local/bin:/usr/bin:/bin',
    `NODE_EXTRA_CA_CERTS=${authorities}`,
    `npm_config_registry=${registry}`,
  ]
  const changes = env.map(variable => `ENV ${variable}`)
  await runOk(docker('import', ...changes.flatMap(change => ['--change', change]), tar, 'base:test'))
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  )
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  return port
}

const PATIENCE_MS = 40_000

/** Polls until the condition holds. */
async function until(isSo: () => Promise<boolean>, why: () => string | Promise<string>): Promise<void> {
  const endMs = performance.now() + PATIENCE_MS
  while (!(await isSo())) {
    if (performance.now() > endMs) throw new Error(`it did not come about:\n${await why()}`)
    await delay(100)
  }
}
