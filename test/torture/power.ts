import { existsSync } from 'node:fs'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Digest, parseDigest } from '../../src/oci/digest.ts'
import { contentKey } from '../../src/storage/layout.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import type { PutImage } from '../support/upstream-content.ts'
import { DaemonProcess } from './daemon.ts'
import { FrozenDisk } from './frozen-disk.ts'
import { NotRun, type Rig, type RigContext, stopwatch, Tally } from './rig.ts'
import { pullImage, putImage, settled, verifyVisible } from './state.ts'

export const EAT_MY_DATA = '/usr/lib/x86_64-linux-gnu/libeatmydata.so'

interface Put {
  readonly image: PutImage
  readonly tag: string
}

/** Cuts the power again and again while the daemon pulls, and checks what each cut left behind. */
async function cutAgainAndAgain(
  context: RigContext,
  { env, restarts }: { readonly env: Record<string, string>; readonly restarts: boolean },
): Promise<void> {
  const { random, forMs, tally, directory } = context
  await using disk = await FrozenDisk.make(directory)
  await using upstream = await startUpstream()
  const root = join(disk.path, 'root')
  await using daemon = await DaemonProcess.start({ root, directory, upstream: upstream.host, env })
  const watch = stopwatch(forMs)
  const forgotten = new Set<string>()
  let round = 0
  while (!watch.isOver()) {
    tally.cycles += 1
    const puts: Put[] = []
    const cutAtMs = performance.now() + random.between(20, 1300)
    const pulling = (async () => {
      while (performance.now() < cutAtMs) {
        round += 1
        const put = { tag: `t${round}`, image: putImage(upstream, random, `t${round}`, 400_000) }
        puts.push(put)
        await pullImage(daemon.address, put.image, put.tag, tally)
      }
    })()
    await sleep(cutAtMs - performance.now())
    const stored = storedBy(daemon).filter(digest => !forgotten.has(digest))
    await disk.cut(async path => {
      await verifyCut(join(path, 'root'), stored, tally)
      await pulling
      if (restarts && tally.cycles % 3 === 0) await restartOn(context, { path, upstream, puts })
    })
    await pulling
    await settled(root, [daemon])
    for (const digest of puts.flatMap(({ image }) => [image.config, ...image.layers])) {
      // Removes what was checked, so that the disk does not fill up.
      forgotten.add(digest)
      upstream.blobs.delete(digest)
      await rm(join(root, contentKey(digest)), { force: true })
    }
    upstream.requests.length = 0
  }
}

/** Digests that the daemon reported as stored. */
function storedBy(daemon: DaemonProcess): readonly Digest[] {
  return daemon
    .linesOf('fill finished')
    .filter(line => line['result'] === 'stored')
    .flatMap(line => parseDigest(String(line['digest'])) ?? [])
}

async function verifyCut(root: string, stored: readonly Digest[], tally: Tally): Promise<void> {
  const visible = new Set(await verifyVisible(root, tally))
  tally.add('files seen', visible.size)
  for (const digest of stored) {
    if (visible.has(digest)) continue
    tally.add('committed and lost')
    tally.violate(`${digest} was stored before the cut, and is gone`)
  }
  for (const path of await tagRecords(root)) {
    const digest = digestIn(await readFile(path, 'utf8'))
    if (digest === undefined) tally.violate(`${path} is no record of a tag`)
    else if (!visible.has(digest)) tally.violate(`${path} names ${digest}, which is not there`)
  }
}

async function tagRecords(root: string): Promise<readonly string[]> {
  const path = join(root, 'repositories')
  const entries = await readdir(path, { recursive: true, withFileTypes: true }).catch(() => [])
  return entries
    .filter(entry => entry.isFile() && entry.parentPath.endsWith('/_tags'))
    .map(entry => join(entry.parentPath, entry.name))
}

function digestIn(record: string): Digest | undefined {
  try {
    return parseDigest(String((JSON.parse(record) as { digest: unknown }).digest))
  } catch {
    return undefined
  }
}

async function restartOn(
  { directory, tally }: RigContext,
  {
    path,
    upstream,
    puts,
  }: { readonly path: string; readonly upstream: FakeUpstream; readonly puts: readonly Put[] },
): Promise<void> {
  const root = join(path, 'root')
  await using daemon = await DaemonProcess.start({ root, directory, upstream: upstream.host })
  tally.ready(daemon.readyMs)
  for (const { image, tag } of puts.slice(-3)) {
    if (!(await pullImage(daemon.address, image, tag, tally))) tally.wedge(`image ${tag} after the cut`)
  }
  await settled(root, [daemon])
  await daemon.stop()
}

export const POWER: Rig = {
  name: 'power',
  title: 'power cut at random moments, by a frozen disk',
  weight: 4,
  run: async context => await cutAgainAndAgain(context, { env: {}, restarts: true }),
}

/** Control of the rig above: without fsync it must fail. */
export const POWER_CONTROL: Rig = {
  name: 'power-control',
  title: 'negative control: the same with fsync and fdatasync doing nothing',
  weight: 1,
  run: async context => {
    if (!existsSync(EAT_MY_DATA)) throw new NotRun('libeatmydata is not installed')
    const seen = new Tally()
    await cutAgainAndAgain({ ...context, tally: seen }, { env: { LD_PRELOAD: EAT_MY_DATA }, restarts: false })
    const { tally } = context
    tally.cycles = seen.cycles
    tally.figure('wrong files seen', seen.badBytes)
    tally.figure('committed and lost', seen.get('committed and lost') ?? 0)
    if (seen.violations.length === 0)
      tally.violate('nothing went wrong without fsync: the rig proves nothing')
    else tally.figure('seen to fail', 'yes')
  },
}
