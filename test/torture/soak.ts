import { existsSync } from 'node:fs'
import { glob, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { FAKETIME_LIBRARY, fakeTimeIn } from './clock.ts'
import { DaemonProcess } from './daemon.ts'
import {
  HOSTED,
  HOSTED_SECTIONS,
  imageManifest,
  MANIFEST_TYPE,
  NOWHERE,
  sendPieces,
  sha256Of,
} from './pusher.ts'
import { NotRun, type Rig, type RigContext, stopwatch } from './rig.ts'

const PUSHERS = 8
/** Blobs that all images are made of, so that pushers find what others brought and what is about to go. */
const BLOBS = 300
const PUSHES = 10_000
/** Each round ages what is there by more than the grace of the collection. */
const ROUND_S = 11_100
/** Pushes that begin in one round. More would fill the store faster than the collection can go over it. */
const PUSHES_PER_ROUND = 100
const SMOKE_PUSHES_PER_ROUND = 20
/** A claim lasts a day: no push may take longer than this many rounds. */
const ROUNDS_MAX = 6

interface Soak {
  readonly context: RigContext
  readonly daemon: DaemonProcess
  /** Directory of the store. */
  readonly root: string
  readonly blobs: readonly Buffer[]
  /** The rounds in which the pushes that are under way began. */
  readonly under: Set<{ readonly since: number }>
  round: number
  /** Pushes that may still begin in this round. */
  left: number
  isOver: boolean
}

/**
 * Clients ask by HEAD, upload what is missing, wait, and push the manifest, beside a collector that removes
 * everything that nothing needs, without a grace: the clock jumps an hour in each of its rounds. What a
 * client was told is here must still be here for its manifest.
 */
async function soak(context: RigContext): Promise<void> {
  const { random, tally, directory, forMs, isSmoke } = context
  if (!existsSync(FAKETIME_LIBRARY)) throw new NotRun('libfaketime is not installed')
  const clock = join(directory, 'time')
  await setClock(clock, 0)
  const options = { root: join(directory, 'root'), directory, upstream: NOWHERE, sections: HOSTED_SECTIONS }
  const daemon = await DaemonProcess.start({
    ...options,
    env: fakeTimeIn(clock),
    adminListen: '127.0.0.1:0',
  })
  const blobs = Array.from({ length: BLOBS }, () => random.bytes(random.between(200, 5000)))
  const running: Soak = {
    context,
    daemon,
    root: options.root,
    blobs,
    under: new Set(),
    round: 0,
    left: 0,
    isOver: false,
  }
  beginRound(running, 0)
  tally.add('pushes failed', 0)
  tally.add('blobs removed', 0)
  try {
    const watch = stopwatch(forMs)
    const collecting = collectOn(running, clock)
    // A run on a busy machine goes on until something was collected: before that it proves nothing.
    const hasCollected = (): boolean => Number(tally.get('blobs removed')) > 0
    const isDone = (): boolean => (isSmoke ? watch.isOver() && hasCollected() : tally.cycles >= PUSHES)
    await Promise.all(Array.from({ length: PUSHERS }, async (_, at) => await pushOn(running, at, isDone)))
    running.isOver = true
    await collecting
    if (!hasCollected()) tally.violate('nothing was collected: the rig proves nothing')
    tally.figure('virtual days', Math.round((running.round * ROUND_S) / 86_400))
  } finally {
    running.isOver = true
    await daemon.kill()
  }
}

async function pushOn(running: Soak, at: number, isDone: () => boolean): Promise<void> {
  const { context, under, daemon } = running
  for (let count = 0; !isDone() && daemon.isRunning; count += 1) {
    if (running.left === 0) {
      await sleep(5)
      continue
    }
    running.left -= 1
    const push = { since: running.round }
    under.add(push)
    context.tally.cycles += 1
    try {
      await pushOnce(running, `p${at}-${count}`)
    } finally {
      under.delete(push)
    }
  }
}

async function pushOnce({ context, daemon, blobs }: Soak, tag: string): Promise<void> {
  const { random, tally } = context
  const { address } = daemon
  const chosen = Array.from({ length: random.between(2, 4) }, () => random.pick(blobs))
  const config = Buffer.from(JSON.stringify({ tag }))
  const failed = (what: string, status: number): void => {
    tally.add('pushes failed')
    tally.violate(`${what} was answered ${status}`)
  }
  for (const bytes of [config, ...chosen]) {
    const digest = sha256Of(bytes)
    const { status } = await sendPieces(address, { method: 'HEAD', path: `${HOSTED}/blobs/${digest}` })
    tally.add(status === 200 ? 'uploads skipped' : 'uploads')
    if (status === 200) continue
    const path = `${HOSTED}/blobs/uploads/?digest=${digest}`
    const pushed = await sendPieces(address, { method: 'POST', path, body: bytes })
    if (pushed.status !== 201) {
      failed(`the upload of ${digest}`, pushed.status)
      return
    }
  }
  await sleep(random.below(60))
  const body = imageManifest(config, chosen)
  const headers = { 'Content-Type': MANIFEST_TYPE }
  const put = await sendPieces(address, { method: 'PUT', path: `${HOSTED}/manifests/${tag}`, body, headers })
  if (put.status !== 201) {
    failed(`the manifest of ${tag}`, put.status)
    return
  }
  for (const bytes of chosen) {
    const path = `${HOSTED}/blobs/${sha256Of(bytes)}`
    const { status } = await sendPieces(address, { method: 'GET', path })
    if (status !== 200) failed(`GET of a blob of ${tag}`, status)
  }
  const path = `${HOSTED}/manifests/${sha256Of(body)}`
  const gone = await sendPieces(address, { method: 'DELETE', path })
  if (gone.status !== 202) failed(`DELETE of ${tag}`, gone.status)
}

/** Collects again and again, and lets an hour pass each time. */
async function collectOn(running: Soak, clock: string): Promise<void> {
  const { context, daemon, under } = running
  const { tally } = context
  while (!running.isOver && daemon.isRunning) {
    const answer = await fetch(`http://${daemon.adminAddress}/_admin/v1/collect`, { method: 'POST' })
    const lines = (await answer.text()).trim().split('\n')
    if (answer.status !== 200) {
      tally.violate(`a collection was answered ${answer.status}`)
      return
    }
    tally.add('blobs removed', lines.filter(line => line.includes('"action":"remove"')).length)
    tally.add('collections')
    const oldest = Math.min(running.round, ...[...under].map(({ since }) => since))
    if (running.round - oldest >= ROUNDS_MAX) await sleep(5)
    else {
      beginRound(running, running.round + 1)
      await setClock(clock, running.round)
      await ageHolds(running.root)
    }
  }
}

function beginRound(running: Soak, round: number): void {
  running.round = round
  running.left = running.context.isSmoke ? SMOKE_PUSHES_PER_ROUND : PUSHES_PER_ROUND
}

/** The file system tells the age of a hold, and its clock does not jump. */
async function ageHolds(root: string): Promise<void> {
  for await (const path of glob(join(root, 'hosted/holds/*/*/*/*'))) {
    const found = await stat(path).catch(() => undefined)
    if (found === undefined) continue
    const seconds = found.mtimeMs / 1000 - ROUND_S
    // A push or a collection may have let it go meanwhile.
    await utimes(path, seconds, seconds).catch(() => undefined)
  }
}

async function setClock(file: string, round: number): Promise<void> {
  await writeFile(file, `+${round * ROUND_S}s\n`)
}

export const SOAK: Rig = {
  name: 'push-soak',
  title: 'pushers that HEAD, wait and PUT, against a collector without grace: 10,000 pushes',
  weight: 0,
  run: async context => await soak(context.isSmoke ? { ...context, forMs: SMOKE_MS } : context),
}

const SMOKE_MS = 8000
