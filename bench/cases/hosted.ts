import { createHash, randomBytes } from 'node:crypto'
import type { Bench, Case } from '../bench.ts'
import { ACCEPT } from '../content.ts'
import { startEntrepot, VARIANTS } from '../entrepot.ts'
import type { Results } from '../results.ts'
import { onItsCore, warm } from '../servers.ts'
import { runWrk } from '../wrk.ts'
import { manifestOf, PushClient, REPOSITORY } from './push.ts'
import { accounted } from './warm.ts'

const CONNECTIONS = 32
const MIRRORED = 'mirrored, by tag'
const [variant] = VARIANTS

/** Pulls from hosted repositories, beside mirrored ones of the same process. */
export const HOSTED_CASES: readonly Case[] = [
  {
    name: 'hosted-manifest',
    title: 'Manifest of a hosted repository, by tag and by digest',
    columns: ['requestsPerSecond', 'cpuPerThousand', 'p50Ms', 'p99Ms'],
    comparisons: [{ title: 'CPU, × mirrored', metric: 'cpuPerThousand', with: MIRRORED }],
    run: runHosted,
  },
]

async function runHosted(bench: Bench, results: Results): Promise<void> {
  const { room, origin, options } = bench
  const items = await bench.maker.make('manifest-tag')
  const started = await startEntrepot(room, `hosted-${randomBytes(3).toString('hex')}`, {
    upstream: origin.address,
    flags: variant.flags,
    hosted: `docker.io/${REPOSITORY.split('/')[0]}/**`,
  })
  const server = { ...started, name: variant.name, variant, readyMs: 0 }
  await warm(server, items)
  using client = new PushClient(server.address)
  const config = Buffer.from('{}')
  await client.pushSmall(config)
  const manifest = manifestOf(config, 'pulled')
  await client.put('manifests/1', manifest)
  const digest = `sha256:${createHash('sha256').update(manifest).digest('hex')}`
  const hosted = `/v2/${REPOSITORY}/manifests`
  const pulls = new Map([
    [MIRRORED, items.map(({ path }) => path)],
    ['hosted, by tag', [`${hosted}/1`]],
    ['hosted, by digest', [`${hosted}/${digest}`]],
  ])
  for (let round = 0; round <= options.rounds; round += 1) {
    for (const [name, paths] of pulls) {
      bench.progress(`hosted-manifest, round ${round}: ${name}`)
      const seconds = round === 0 ? 1 : options.seconds
      const measured = await onItsCore(server, async core => {
        const order = {
          address: server.address,
          paths,
          headers: ACCEPT,
          connections: CONNECTIONS,
          core,
          seconds,
        }
        return await accounted(server, async () => await runWrk(room, order))
      })
      if (round > 0) results.add('hosted-manifest', name, measured)
    }
  }
  await server.child.stop()
}
