import { spawnSync } from 'node:child_process'
import { mkdir, open, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { hasCode } from '../../src/lib/system-error.ts'
import { contentKey } from '../../src/storage/layout.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import type { PutImage } from '../support/upstream-content.ts'
import { pull } from './client.ts'
import { DaemonProcess, requirePrograms } from './daemon.ts'
import { NotRun, type Rig, type RigContext, stopwatch, type Tally } from './rig.ts'
import { blobPath, countLeaks, pullImage, putImage, settled, verifyVisible } from './state.ts'
import { Trace } from './trace.ts'

/** System calls that can fail on the way of bytes to the disk and back. */
const CALLS = [
  'openat',
  'mkdir',
  'pwrite64',
  'pread64',
  'ftruncate',
  'fdatasync',
  'fsync',
  'rename',
  'unlink',
  'statx',
  'close',
  'getdents64',
] as const

const ERRORS = ['EIO', 'ENOSPC', 'EROFS', 'EMFILE'] as const

/** Only the first call, only the second, … or all calls from the first, the second, … on. */
const WHEN = ['1', '2', '3', '5', '8', '1+', '2+', '4+'] as const

interface Case {
  readonly call: string
  readonly error: string
  readonly when: string
}

const CASES: readonly Case[] = CALLS.flatMap(call =>
  ERRORS.flatMap(error => WHEN.map(when => ({ call, error, when }))),
)

/**
 * Every call on the path to the disk fails in every way. Pulls must succeed all the same, and must be cached
 * again as soon as the fault ends.
 */
async function faults(context: RigContext): Promise<void> {
  const { random, forMs, tally, directory } = context
  requirePrograms('strace')
  await using upstream = await startUpstream()
  const root = join(directory, 'root')
  await using daemon = await DaemonProcess.start({ root, directory, upstream: upstream.host })
  const watch = stopwatch(forMs)
  let cases = random.shuffle(CASES)
  let done = 0
  const warm = { tag: 'warm', image: putImage(upstream, random, 'warm') }
  await pullImage(daemon.address, warm.image, warm.tag, tally)
  while (!watch.isOver()) {
    const [next = { call: 'openat', error: 'EIO', when: '1' }, ...rest] = cases
    cases = rest.length === 0 ? random.shuffle(CASES) : rest
    const name = `${next.call} × ${next.error} × ${next.when}`
    tally.cycles += 1
    done += 1
    const tag = `t${tally.cycles}`
    const image = putImage(upstream, random, tag)
    {
      await using trace = await Trace.attach(daemon.pid, [
        { call: next.call, fault: `error=${next.error}`, when: next.when },
      ])
      if (!(await pullImage(daemon.address, image, tag, tally)))
        tally.violate(`cold pull failed under ${name}`)
      if (!(await pullImage(daemon.address, warm.image, warm.tag, tally)))
        tally.violate(`warm pull failed under ${name}`)
      void trace
    }
    if (!daemon.isRunning) {
      tally.violate(`the daemon ended under ${name}: ${daemon.stderr}`)
      return
    }
    if (!(await pullImage(daemon.address, image, tag, tally))) tally.wedge(`after ${name}`)
    await settled(root, [daemon])
    const gets = upstream.requests.length
    if (!(await pullImage(daemon.address, image, tag, tally))) tally.wedge(`after ${name}, once more`)
    if (upstream.requests.length > gets)
      tally.violate(`${askedSince(upstream, gets)} though ${name} was over`)
    upstream.requests.length = 0
  }
  tally.figure('cases', `${Math.min(done, CASES.length)} of ${CASES.length}`)
  await daemon.stop()
  await verifyVisible(root, tally)
  tally.ready(await restart(context, root, upstream.host))
}

/** Starts a daemon on the leftovers, which sweeps them, and returns how long that took. */
async function restart({ directory, tally }: RigContext, root: string, upstream: string): Promise<number> {
  await using daemon = await DaemonProcess.start({ root, directory, upstream })
  await daemon.stop()
  await using next = await DaemonProcess.start({ root, directory, upstream })
  await countLeaks(root, [next], tally, { mayKeep: true })
  return next.readyMs
}

/**
 * Few open files, which many clients use up: requests that cannot be answered are refused, and everything
 * works afterwards.
 */
async function fewFiles(context: RigContext): Promise<void> {
  const { random, forMs, tally, directory } = context
  await using upstream = await startUpstream()
  const root = join(directory, 'root')
  await using daemon = await DaemonProcess.start({
    root,
    directory,
    upstream: upstream.host,
    through: ['sh', '-c', 'ulimit -n 64; exec "$@"', 'sh'],
  })
  const watch = stopwatch(forMs)
  let served = 0
  let refused = 0
  while (!watch.isOver()) {
    tally.cycles += 1
    const tag = `t${tally.cycles}`
    const image = putImage(upstream, random, tag, 300_000)
    const pulls = Array.from(
      { length: 100 },
      async () => await pull(daemon.address, blobPath(image.layers[0] ?? ''), { patienceMs: 20_000 }),
    )
    for (const { status, isComplete, digest } of await Promise.all(pulls)) {
      if (status === 200 && isComplete && digest !== image.layers[0]) tally.bad(`layer of ${tag}`)
      if (status === 200 && isComplete) served += 1
      else {
        refused += 1
        tally.add(status === 0 ? 'connections reset' : `answered ${status}`)
      }
    }
    if (!daemon.isRunning) {
      tally.violate(`the daemon ended: ${daemon.stderr}`)
      return
    }
    const freedAtMs = performance.now()
    let isWell = false
    while (!isWell && performance.now() - freedAtMs < 10_000) {
      isWell = await pullImage(daemon.address, image, tag, tally)
      if (!isWell) await sleep(50)
    }
    if (!isWell) tally.wedge(`image ${tag} after the rush`)
    const recoveryMs = Math.round(performance.now() - freedAtMs)
    tally.figure('recovery, max ms', Math.max(Number(tally.get('recovery, max ms') ?? 0), recoveryMs))
  }
  tally.figure('served', served)
  tally.figure('refused', refused)
}

/**
 * A disk that is full, has no inodes left, and is read-only: misses pass through, hits are served, and the
 * daemon recovers.
 */
async function sickDisk(context: RigContext): Promise<void> {
  const { random, forMs, tally, directory } = context
  requirePrograms('mount', 'umount')
  await using upstream = await startUpstream()
  const mounted = join(directory, 'disk')
  await mkdir(mounted)
  const mount = (...options: readonly string[]): void => {
    const made = spawnSync('mount', [...options])
    if (made.status !== 0) throw new NotRun(`mount: ${made.stderr.toString().trim().split('\n')[0]}`)
  }
  mount('-t', 'tmpfs', '-o', 'size=12m,nr_inodes=600', 'entrepot-torture', mounted)
  try {
    const root = join(mounted, 'root')
    const start = async (...flags: readonly string[]): Promise<DaemonProcess> =>
      await DaemonProcess.start({ root, directory, upstream: upstream.host, flags })
    let daemon = await start()
    const watch = stopwatch(forMs)
    const warm = { tag: 'warm', image: putImage(upstream, random, 'warm', 200_000) }
    if (!(await pullImage(daemon.address, warm.image, warm.tag, tally))) tally.wedge('the first pull')
    while (!watch.isOver()) {
      tally.cycles += 1
      const sickness = random.pick(['full', 'without inodes', 'read-only'])
      if (sickness === 'full') await fill(join(mounted, 'filler'))
      else if (sickness === 'without inodes') await useUpInodes(join(mounted, 'filler'))
      else {
        // A file system with a file open for writing cannot be made read-only.
        await daemon.stop()
        mount('-o', 'remount,ro', mounted)
        daemon = await start('--pass-through')
        tally.ready(daemon.readyMs)
      }
      const tag = `t${tally.cycles}`
      const image = putImage(upstream, random, tag, 2_500_000)
      if (!(await pullImage(daemon.address, image, tag, tally)))
        tally.violate(`cold pull failed on a disk: ${sickness}`)
      if (!(await pullImage(daemon.address, warm.image, warm.tag, tally)))
        tally.violate(`warm pull failed on a disk: ${sickness}`)
      if (sickness === 'read-only') mount('-o', 'remount,rw', mounted)
      else await rm(join(mounted, 'filler'), { recursive: true })
      const recoveryMs = await recovered({ daemon, root, upstream }, { image, tag }, tally)
      if (recoveryMs === undefined) tally.violate(`not cached again within 30 s after: ${sickness}`)
      else tally.figure('recovery, max ms', Math.max(Number(tally.get('recovery, max ms') ?? 0), recoveryMs))
      upstream.requests.length = 0
      for (const digest of [image.manifest, image.config, ...image.layers])
        await rm(join(root, contentKey(digest)), { force: true })
    }
    await daemon.stop()
    tally.figure(
      'changes told in the log since the last start',
      daemon.linesOf('store cannot be written: pulls pass through uncached until it can').length,
    )
    await verifyVisible(root, tally)
    await countLeaks(root, [], tally, { mayKeep: false })
  } finally {
    spawnSync('umount', ['-l', mounted])
  }
}

/** Time until an image, which every pull must get, is also served without the upstream. */
async function recovered(
  place: { readonly daemon: DaemonProcess; readonly root: string; readonly upstream: FakeUpstream },
  { image, tag }: { readonly image: PutImage; readonly tag: string },
  tally: Tally,
): Promise<number | undefined> {
  const { daemon, root, upstream } = place
  const watch = stopwatch(30_000)
  while (!watch.isOver()) {
    const before = upstream.requests.length
    if (!(await pullImage(daemon.address, image, tag, tally))) tally.wedge(`image ${tag}`)
    if (upstream.requests.length === before) return Math.round(watch.elapsedMs)
    await settled(root, [daemon])
    await sleep(20)
  }
  return undefined
}

/** Requests to the upstream after the first `count`. */
function askedSince(upstream: FakeUpstream, before: number): string {
  const asked = upstream.requests.slice(before).map(({ method, path }) => `${method} ${path}`)
  return `the upstream was asked for ${asked.join(', ')}`
}

/** Writes until nothing more fits. */
async function fill(path: string): Promise<void> {
  await using file = await open(path, 'w')
  try {
    for (;;) await file.write(Buffer.alloc(4096))
  } catch (error) {
    if (!hasCode(error, 'ENOSPC')) throw error
  }
}

async function useUpInodes(directory: string): Promise<void> {
  await mkdir(directory)
  try {
    for (let name = 0; ; name += 1) await writeFile(join(directory, String(name)), '')
  } catch (error) {
    if (!hasCode(error, 'ENOSPC')) throw error
  }
}

export const FAULTS: Rig = {
  name: 'faults',
  title: 'every call of the path to the disk × EIO, ENOSPC, EROFS, EMFILE',
  weight: 4,
  run: faults,
}

export const FEW_FILES: Rig = {
  name: 'few-files',
  title: '100 clients at once under `ulimit -n 64`',
  weight: 0.5,
  run: fewFiles,
}

export const SICK_DISK: Rig = {
  name: 'sick-disk',
  title: 'disk full, inodes used up, read-only, and well again',
  weight: 1,
  run: sickDisk,
}
