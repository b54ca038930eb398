import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { ProxyConfig } from '../../src/config/proxy.ts'
import { Secret } from '../../src/config/secret.ts'
import { startMirror, upstreamEntry } from '../support/mirror.ts'
import { certificatePath, type FakeUpstream, startUpstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'
import { Child } from './rig/child.ts'
import { accepts, freePort } from './rig/ports.ts'
import { isMissing, skipFor } from './rig/requirements.ts'

/** A real proxy: its executable, and its configuration for a port and a directory. */
interface ProxyKind {
  readonly executable: string
  readonly argv: (file: string) => readonly string[]
  readonly configuration: (port: number, directory: string) => string
  /** What its log says of a tunnel to the upstream's port. */
  readonly logged: (port: string) => RegExp
}

const LOG = 'access.log'
const USERNAME = 'robot'
const PASSWORD = 'correct-horse'
const BASIC = `Basic ${Buffer.from(`${USERNAME}:${PASSWORD}`).toString('base64')}`

const TINYPROXY: ProxyKind = {
  executable: 'tinyproxy',
  argv: file => ['tinyproxy', '-d', '-c', file],
  configuration: (port, directory) => `Port ${port}
Listen 127.0.0.1
Timeout 60
MaxClients 50
LogFile "${directory}/${LOG}"
LogLevel Connect
BasicAuth ${USERNAME} ${PASSWORD}
`,
  logged: port => new RegExp(`CONNECT localhost:${port} HTTP`),
}

/** Squid takes the one header that the right credentials make; its helpers for passwords are not needed. */
const SQUID: ProxyKind = {
  executable: 'squid',
  // The service name keeps its shared memory apart from that of another squid on this machine.
  argv: file => ['squid', '-N', '-n', `entrepot${process.pid}`, '-f', file],
  configuration: (port, directory) => `http_port 127.0.0.1:${port}
acl robot req_header Proxy-Authorization -i ^${BASIC.replaceAll(/[ +/=]/g, '.')}$
http_access allow CONNECT robot
http_access deny all
access_log stdio:${directory}/${LOG}
cache_log ${directory}/cache.log
pid_filename none
cache deny all
coredump_dir ${directory}
netdb_filename none
shutdown_lifetime 1 seconds
cache_effective_user proxy
`,
  logged: port => new RegExp(`TCP_TUNNEL/200 .* CONNECT localhost:${port}`),
}

for (const kind of [TINYPROXY, SQUID]) {
  const lacking = ['setpriv', kind.executable].filter(isMissing)
  describe(`pulls through ${kind.executable}`, { skip: skipFor(lacking) }, () => {
    const stack = new AsyncDisposableStack()
    let proxy: ProxyConfig
    let upstream: FakeUpstream
    let directory: string
    let image: ReturnType<FakeUpstream['putImage']>

    before(async () => {
      directory = await mkdtemp(join(tmpdir(), 'entrepot-proxy-'))
      // Squid gives up root, and then writes its logs here.
      await chmod(directory, 0o777)
      stack.defer(async () => await rm(directory, { recursive: true, force: true }))
      upstream = stack.use(await startUpstream({ tls: 'server', hostname: 'localhost' }))
      image = upstream.putImage({ layers: [randomBytes(1_000_000), randomBytes(100)] })
      upstream.tag('library/tools', '1', image.manifest)
      const port = await freePort()
      const file = join(directory, 'proxy.conf')
      await writeFile(file, kind.configuration(port, directory))
      const child = stack.use(new Child(kind.executable, kind.argv(file)))
      await child.ready(async () => await accepts({ host: '127.0.0.1', port }))
      const credentials = { username: USERNAME, password: new Secret(PASSWORD) }
      proxy = { protocol: 'http:', host: `127.0.0.1:${port}`, credentials }
    })
    after(async () => {
      await stack.disposeAsync()
    })

    const open = async (by: ProxyConfig): Promise<Awaited<ReturnType<typeof startMirror>>> => {
      const secured = { tls: true, caFile: certificatePath('ca.pem'), proxy: by }
      const entry = upstreamEntry('docker.io', upstream.host, secured)
      return await startMirror({ upstream: upstream.host, config: { upstreams: [entry] } })
    }

    test('a pull arrives whole, and the proxy saw a tunnel to the name of the registry', async () => {
      await using mirror = await open(proxy)
      const manifest = await mirror.get('/v2/library/tools/manifests/1')
      assert.equal(manifest.status, 200)
      for (const digest of image.layers) {
        const blob = await mirror.get(`/v2/library/tools/blobs/${digest}`)
        assert.equal(blob.status, 200)
        assert.ok(blob.isComplete)
      }
      // Squid writes the line once the tunnel has ended.
      await mirror[Symbol.asyncDispose]()
      const logged = kind.logged(upstream.host.split(':')[1] ?? '')
      await until(
        async () => logged.test(await readFile(join(directory, LOG), 'utf8')),
        'the proxy logs the tunnel',
      )
    })

    test('a wrong password is trouble that names the proxy', async () => {
      const wrong = { ...proxy, credentials: { username: USERNAME, password: new Secret('wrong') } }
      await using mirror = await open(wrong)
      const reply = await mirror.get('/v2/library/tools/manifests/1')
      assert.equal(reply.status, 502)
      assert.match(String(reply.body), new RegExp(`through proxy ${proxy.host} cannot be reached`))
    })
  })
}
