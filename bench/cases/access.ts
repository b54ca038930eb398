import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { hash } from 'bcryptjs'
import { freePort } from '../../test/clients/rig/ports.ts'
import type { Bench, Case } from '../bench.ts'
import { ACCEPT, type Item } from '../content.ts'
import { startEntrepot, VARIANTS } from '../entrepot.ts'
import { startNginxStatic } from '../nginx.ts'
import type { Results } from '../results.ts'
import type { Room, Started } from '../room.ts'
import { NGINX_STATIC, onItsCore, warm } from '../servers.ts'
import { runWrk } from '../wrk.ts'
import { accounted } from './warm.ts'

const CONNECTIONS = 32
const STREAMS = 8
const [{ name: OWN, workers, flags }] = VARIANTS
/** As many rows as a company has teams; the last one decides. */
const RULES = 50
const BCRYPT_COST = 10

/** A server as one kind of client sees it. */
interface Seen extends Started {
  readonly name: string
  readonly isOwn: boolean
  readonly isEncrypted: boolean
  readonly headers?: Readonly<Record<string, string>>
}

/** What rules, logins and encryption cost, with one worker. */
export const ACCESS_CASES: readonly Case[] = [
  {
    name: 'rules',
    title: `Warm manifest by tag, with ${RULES} rules`,
    isLong: true,
    columns: ['requestsPerSecond', 'cpuPerThousand', 'p50Ms', 'p99Ms'],
    comparisons: [{ title: 'CPU, × no rules', metric: 'cpuPerThousand', with: 'no rules' }],
    run: runRules,
  },
  {
    name: 'tls-manifests',
    programs: ['openssl'],
    title: 'Warm manifest by tag, over TLS',
    isLong: true,
    columns: ['requestsPerSecond', 'cpuPerThousand', 'p50Ms', 'p99Ms'],
    comparisons: [
      { title: 'per core', metric: 'cpuPerThousand', with: `${NGINX_STATIC}, TLS`, isCost: true },
    ],
    run: async (bench, results) =>
      await runTls({ bench, results }, 'tls-manifests', await bench.maker.make('manifest-tag')),
  },
  {
    name: 'tls-blobs',
    programs: ['openssl'],
    title: 'Warm blob of 16 MiB, over TLS',
    isLong: true,
    columns: ['bytesPerSecond', 'cpuPerGigabyte'],
    comparisons: [
      { title: 'per core', metric: 'cpuPerGigabyte', with: `${NGINX_STATIC}, TLS`, isCost: true },
    ],
    run: async (bench, results) =>
      await runTls({ bench, results }, 'tls-blobs', await bench.maker.make('medium')),
  },
]

interface Run {
  readonly bench: Bench
  readonly results: Results
}

async function runRules(bench: Bench, results: Results): Promise<void> {
  const items = await bench.maker.make('manifest-tag')
  const password = randomBytes(12).toString('hex')
  const file = bench.room.path('users')
  await writeFile(file, `ci:${await hash(password, BCRYPT_COST)}\n`, { mode: 0o600 })
  const rules = [
    ...Array.from({ length: RULES - 1 }, (_, team) => ({
      who: `group:team-${team}`,
      names: `docker.io/team-${team}/**`,
      may: ['pull', 'push'],
    })),
    { who: 'everyone', may: 'pull' },
  ]
  const upstream = bench.origin.address
  const plain = await startEntrepot(bench.room, 'no-rules', { upstream, flags })
  const ruled = await startEntrepot(bench.room, 'rules', {
    upstream,
    flags,
    access: { auth: { htpasswd_file: file }, rules },
  })
  const login = { Authorization: `Basic ${Buffer.from(`ci:${password}`).toString('base64')}` }
  const own = { isOwn: true, isEncrypted: false }
  const seen: readonly Seen[] = [
    { name: 'no rules', ...plain, ...own },
    { name: 'rules', ...ruled, ...own },
    { name: 'rules, and a password', ...ruled, ...own, headers: login },
  ]
  await loadAll({ bench, results }, 'rules', seen, items)
  for (const { child } of [plain, ruled]) await child.stop()
}

async function runTls(run: Run, name: string, items: readonly Item[]): Promise<void> {
  const { bench } = run
  const { room, origin } = bench
  const { certFile, keyFile } = await makeCertificate(room)
  const [ownTls, nginxTls] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`]
  const group = `${name}-${randomBytes(3).toString('hex')}`
  const own = await startEntrepot(room, `${group}-own`, {
    upstream: origin.address,
    flags: [...flags, '--listen-tls', ownTls, '--tls-cert', certFile, '--tls-key', keyFile],
  })
  const tls = { address: nginxTls, certFile, keyFile }
  const nginx = await startNginxStatic(room, `${group}-nginx`, bench.maker.root, tls)
  const seen: readonly Seen[] = [
    { name: OWN, ...own, isOwn: true, isEncrypted: false },
    { name: `${OWN}, TLS`, ...own, address: ownTls, isOwn: true, isEncrypted: true },
    { name: NGINX_STATIC, ...nginx, isOwn: false, isEncrypted: false },
    { name: `${NGINX_STATIC}, TLS`, ...nginx, address: nginxTls, isOwn: false, isEncrypted: true },
  ]
  await loadAll(run, name, seen, items)
  for (const { child } of [own, nginx]) await child.stop()
}

/** Loads each in turn, after one load that does not count. */
async function loadAll(
  { bench, results }: Run,
  name: string,
  all: readonly Seen[],
  items: readonly Item[],
): Promise<void> {
  const { rounds, seconds } = bench.options
  for (const one of all) {
    const variant = one.isOwn ? { variant: { name: OWN, workers, flags } } : {}
    if (!one.isEncrypted) await warm({ ...one, ...variant, readyMs: 0 }, items)
  }
  for (let round = 0; round <= rounds; round += 1) {
    for (const one of all) {
      bench.progress(`${name}, round ${round}: ${one.name}`)
      const measured = await onItsCore({ ...one, readyMs: 0 }, async core => {
        const { address, isEncrypted, headers = {} } = one
        const connections = name === 'tls-blobs' ? STREAMS : CONNECTIONS
        const paths = items.map(({ path }) => path)
        const order = { address, isEncrypted, paths, connections, core, seconds: round === 0 ? 1 : seconds }
        return await accounted(
          one,
          async () => await runWrk(bench.room, { ...order, headers: { ...ACCEPT, ...headers } }),
        )
      })
      if (round > 0) results.add(name, one.name, measured)
    }
  }
}

async function makeCertificate(room: Room): Promise<{ readonly certFile: string; readonly keyFile: string }> {
  const [certFile, keyFile] = [room.path('tls.pem'), room.path('tls.key')]
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', keyFile]
  const names = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1']
  await room.run(['openssl', 'req', '-x509', ...key, '-out', certFile, '-days', '2', ...names])
  return { certFile, keyFile }
}
