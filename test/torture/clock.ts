import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { startUpstream } from '../support/upstream.ts'
import { DaemonProcess } from './daemon.ts'
import { NotRun, type Rig, type RigContext, stopwatch } from './rig.ts'
import { manifestPath, pullImage, putImage } from './state.ts'

export const FAKETIME_LIBRARY = '/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1'
const YEAR_S = 31_557_600
const JUMPS_S = [10 * YEAR_S, -10 * YEAR_S, 3600, -3600, 86_400, -86_400, 1, -1]
/** Time for which a tag is fresh: long enough for two requests on a busy machine. */
const FRESH_MS = 3000

/** Environment of a process whose wall clock is as a file says. */
export function fakeTimeIn(file: string): Record<string, string> {
  return {
    LD_PRELOAD: FAKETIME_LIBRARY,
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
    DONT_FAKE_MONOTONIC: '1',
  }
}

/** The wall clock jumps back and forth under the daemon and between two daemons. */
async function jump(context: RigContext): Promise<void> {
  const { random, forMs, tally, directory } = context
  if (!existsSync(FAKETIME_LIBRARY)) throw new NotRun('libfaketime is not installed')
  await using upstream = await startUpstream({ auth: { kind: 'bearer', expiresIn: 60 } })
  const root = join(directory, 'root')
  const file = join(directory, 'time')
  const setClock = async (offsetS: number): Promise<void> =>
    await writeFile(file, `${offsetS < 0 ? '' : '+'}${offsetS}s\n`)
  const env = fakeTimeIn(file)
  const entry = [`  manifest_invalidation_time: ${FRESH_MS / 1000}s`]
  const start = async (): Promise<DaemonProcess> =>
    await DaemonProcess.start({ root, directory, upstream: upstream.host, env, entry })
  const asked = (tag: string): number => upstream.count({ path: manifestPath(tag) })
  const watch = stopwatch(forMs)
  await setClock(0)
  const years = new Set<string>()
  let daemon = await start()
  try {
    while (!watch.isOver()) {
      tally.cycles += 1
      const tag = `t${tally.cycles}`
      const image = putImage(upstream, random, tag, 100_000)
      const pullIt = async (): Promise<void> => {
        if (!(await pullImage(daemon.address, image, tag, tally))) tally.wedge(`image ${tag}`)
      }
      const pulledAtMs = performance.now()
      await pullIt()
      const before = asked(tag)
      const offsetS = JUMPS_S[(tally.cycles - 1) % JUMPS_S.length] ?? 0
      await setClock(offsetS)
      await pullIt()
      if (performance.now() - pulledAtMs < FRESH_MS && asked(tag) > before)
        tally.violate(`a jump of ${offsetS} s made a tag stale that this process had just confirmed`)
      if (random.below(2) === 0) {
        // The files on disk are from before the jump: for the next process they come from the future or from
        // long ago.
        await daemon.stop()
        await setClock(random.pick(JUMPS_S))
        daemon = await start()
        await pullIt()
        tally.add('restarts')
      }
      await sleep(FRESH_MS + 100)
      const later = asked(tag)
      await pullIt()
      if (asked(tag) === later) tally.violate(`a jump of ${offsetS} s made a tag immortal`)
      upstream.requests.length = 0
      for (const line of daemon.lines) years.add(String(line['time']).slice(0, 4))
    }
    tally.figure('years seen', [...years].toSorted().join(' '))
  } finally {
    await daemon.kill()
  }
}

export const CLOCK: Rig = {
  name: 'clock',
  title: 'the wall clock jumps by up to ten years, forth and back',
  weight: 1,
  run: jump,
}
