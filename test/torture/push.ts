import { existsSync } from 'node:fs'
import { readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pull } from './client.ts'
import { DaemonProcess } from './daemon.ts'
import { FrozenDisk } from './frozen-disk.ts'
import { EAT_MY_DATA } from './power.ts'
import { HOSTED, HOSTED_SECTIONS, NOWHERE, Pusher, sendPieces } from './pusher.ts'
import { NotRun, type Rig, type RigContext, stopwatch, Tally } from './rig.ts'
import { pullChecked, verifyVisible } from './state.ts'
import { Told, type Upload } from './told.ts'

const PUSHERS = 3
/** A directory is left for a new one after this many cycles, so that it does not fill the disk. */
const CYCLES_PER_ROOT = 12
const CONTROL_CYCLES_MAX = 20

interface Place {
  readonly root: string
  readonly directory: string
  readonly env?: Record<string, string>
}

async function startHosting(place: Place, tally: Tally): Promise<DaemonProcess> {
  const daemon = await DaemonProcess.start({ ...place, upstream: NOWHERE, sections: HOSTED_SECTIONS })
  tally.ready(daemon.readyMs)
  return daemon
}

/** What an upload may lose of the bytes that were answered for: a power cut may cost it up to 8 MiB. */
type Death = 'kill' | 'power cut'
const LOSS_MAX = { kill: 0, 'power cut': 8 * 1024 ** 2 }

/** Proves that everything that was acknowledged is there, with its bytes. */
async function verifyTold(address: string, told: Told, tally: Tally): Promise<void> {
  const paths = [
    ...told.blobs.map(digest => `${HOSTED}/blobs/${digest}`),
    ...told.manifests.map(digest => `${HOSTED}/manifests/${digest}`),
  ]
  for (const path of paths) {
    tally.add('acknowledged and checked')
    await requirePulled(address, path, tally)
  }
  for (const [tag, { acknowledged, tried }] of told.tags) {
    const { status, isComplete, digest } = await pull(address, `${HOSTED}/manifests/${tag}`)
    tally.add('acknowledged and checked', acknowledged === undefined ? 0 : 1)
    if (status === 200 && isComplete) {
      if (digest !== acknowledged && !tried.includes(digest)) tally.bad(`tag ${tag} names ${digest}`)
    } else if (status !== 404 || acknowledged !== undefined) lose(`tag ${tag}, answered ${status}`, tally)
  }
}

/** Says how a pull that failed is answered again: content that is gone is not a late answer. */
async function requirePulled(address: string, path: string, tally: Tally): Promise<void> {
  if (await pullChecked(address, path, tally)) return
  const { status, isComplete, sizeBytes, tookMs } = await pull(address, path)
  const end = isComplete ? 'complete' : 'cut'
  lose(`${path}, answered ${status} again, ${end} after ${sizeBytes} bytes and ${tookMs.toFixed()} ms`, tally)
}

function lose(what: string, tally: Tally): void {
  tally.add('acknowledged and lost')
  tally.violate(`acknowledged and lost: ${what}`)
}

/** Goes on with what was cut, as a client does: the uploads first, then the images. */
async function takeUp(
  address: string,
  { told, death, pusher }: { readonly told: Told; readonly death: Death; readonly pusher: Pusher },
  tally: Tally,
): Promise<void> {
  for (const upload of told.uploads) {
    if (await resume(address, { upload, told, death, pusher }, tally)) continue
    told.uploads.delete(upload)
    if (!(await pusher.pushWhole(address, upload.bytes, told))) tally.wedge(`the blob ${upload.digest}`)
  }
  for (const image of told.unfinished) {
    for (const bytes of image.blobs) {
      if (!(await pusher.pushWhole(address, bytes, told))) tally.wedge('a blob of an image that was cut')
    }
    if (!(await pusher.pushManifest(address, image, told))) tally.wedge(`the image ${image.tags[0]}`)
  }
}

/** Resumes an upload by GET, PATCH and PUT; false if there is no such upload any more. */
async function resume(
  address: string,
  {
    upload,
    told,
    death,
    pusher,
  }: { readonly upload: Upload; readonly told: Told; readonly death: Death; readonly pusher: Pusher },
  tally: Tally,
): Promise<boolean> {
  const { location, digest, bytes, acceptedBytes, isFinishing } = upload
  const { status, headers } = await sendPieces(address, { method: 'GET', path: location })
  const blobPath = `${HOSTED}/blobs/${digest}`
  if (status === 404) {
    const isFinished = isFinishing && (await pullChecked(address, blobPath, tally))
    if (isFinished) tally.add('uploads found finished')
    else if (death === 'kill' || acceptedBytes > LOSS_MAX[death])
      tally.violate(`the upload ${location} of ${acceptedBytes} bytes is gone`)
    else tally.add('uploads begun again')
    return false
  }
  const [, last] = /^0-([0-9]+)$/.exec(String(headers['range'])) ?? []
  if (status !== 204 || last === undefined) {
    tally.violate(`the state of the upload ${location} was answered ${status}`)
    return false
  }
  const receivedBytes = last === '0' ? 0 : Number(last) + 1
  if (receivedBytes > bytes.length) tally.bad(`the upload ${location} has bytes that nobody sent`)
  if (receivedBytes + LOSS_MAX[death] < acceptedBytes && !isFinishing)
    tally.violate(`the upload ${location} has ${receivedBytes} of ${acceptedBytes} bytes`)
  upload.acceptedBytes = receivedBytes
  const isAppended =
    receivedBytes === bytes.length || (await pusher.append(address, upload, bytes.length - receivedBytes))
  if (!isAppended || !(await pusher.finish(address, upload, told))) tally.wedge(`the upload ${location}`)
  else await requirePulled(address, blobPath, tally)
  tally.add(receivedBytes === 0 ? 'uploads resumed at 0' : 'uploads resumed in the middle')
  return true
}

/** Kills the daemon at random moments of pushes, again and again in one directory. */
async function killInMidPush(context: RigContext): Promise<void> {
  const { random, forMs, tally, directory } = context
  const pushers = Array.from({ length: PUSHERS }, (_, at) => new Pusher(`p${at}`, random, tally))
  const [first = new Pusher('p', random, tally)] = pushers
  tally.add('acknowledged and lost', 0)
  const watch = stopwatch(forMs)
  // A run that comes late still kills once: a rig of no cycle would prove nothing.
  const isDone = (): boolean => watch.isOver() && tally.cycles > 0
  while (!isDone()) {
    const place = { root: join(directory, `root-${tally.cycles}`), directory }
    const told = new Told()
    let daemon = await startHosting(place, tally)
    try {
      for (let cycle = 0; cycle < CYCLES_PER_ROOT && !isDone(); cycle += 1) {
        tally.cycles += 1
        const mark = { blobs: told.blobs.length, manifests: told.manifests.length }
        const pushing = Promise.all(pushers.map(async pusher => await pushOn(daemon, pusher, told)))
        await sleep(random.below(700))
        await daemon.kill()
        await pushing
        await verifyVisible(place.root, tally)
        daemon = await startHosting(place, tally)
        await verifyTold(daemon.address, told.since(mark), tally)
        await takeUp(daemon.address, { told, death: 'kill', pusher: first }, tally)
      }
      await verifyTold(daemon.address, told, tally)
      await verifyUploadsGone(place.root, told, tally)
    } finally {
      await daemon.kill()
    }
    await rm(place.root, { recursive: true, force: true })
  }
}

async function pushOn(daemon: DaemonProcess, pusher: Pusher, told: Told): Promise<void> {
  while (daemon.isRunning && (await pusher.pushNew(daemon.address, told)));
}

/** Proves that nothing is left of uploads that were answered as finished. */
async function verifyUploadsGone(root: string, told: Told, tally: Tally): Promise<void> {
  const places = [join(root, 'hosted/uploads'), ...(await uploadDirectories(root))]
  for (const place of places) {
    for (const id of await readdir(place).catch(() => [])) {
      if (told.finishedUploads.has(id)) tally.leak(join(place, id))
    }
  }
}

async function uploadDirectories(root: string): Promise<readonly string[]> {
  const path = join(root, 'spool/uploads')
  return (await readdir(path).catch(() => [])).map(name => join(path, name))
}

/** Cuts the power again and again in mid-push, and has a daemon go on from what each cut left behind. */
async function cutInMidPush(
  context: RigContext,
  { env, isEnough }: { readonly env: Record<string, string>; readonly isEnough: () => boolean },
): Promise<void> {
  const { random, forMs, tally, directory } = context
  await using disk = await FrozenDisk.make(directory)
  const pushers = Array.from({ length: PUSHERS }, (_, at) => new Pusher(`p${at}`, random, tally))
  tally.add('acknowledged and lost', 0)
  const watch = stopwatch(forMs)
  const isDone = (): boolean => watch.isOver() && isEnough()
  while (!isDone()) {
    const name = `root-${tally.cycles}`
    const root = join(disk.path, name)
    await using daemon = await startHosting({ root, directory, env }, tally)
    const told = new Told()
    for (let cycle = 0; cycle < 3 && !isDone(); cycle += 1) {
      tally.cycles += 1
      const isOver = Promise.withResolvers<void>()
      const state = { isCut: false }
      const pushing = Promise.all(
        pushers.map(async pusher => {
          while (!state.isCut && (await pusher.pushNew(daemon.address, told)));
        }),
      ).finally(isOver.resolve)
      await Promise.race([sleep(random.between(20, 1000)), isOver.promise])
      state.isCut = true
      const toldByThen = told.copy()
      await disk.cut(async path => {
        await pushing
        await goOnFrom(context, { root: join(path, name), told: toldByThen })
      })
    }
    await daemon.kill()
    await rm(root, { recursive: true, force: true })
  }
}

async function goOnFrom(
  { directory, tally, random }: RigContext,
  { root, told }: { readonly root: string; readonly told: Told },
): Promise<void> {
  await verifyVisible(root, tally)
  // The machine has booted since.
  for (const path of await uploadDirectories(root)) await rename(path, `${path}-before`)
  await using daemon = await startHosting({ root, directory }, tally)
  await verifyTold(daemon.address, told, tally)
  const pusher = new Pusher('after', random, tally)
  await takeUp(daemon.address, { told, death: 'power cut', pusher }, tally)
  await daemon.stop()
}

export const PUSH_KILL: Rig = {
  name: 'push-kill',
  title: 'kill -9 at random moments of three pushes',
  weight: 4,
  run: killInMidPush,
}

export const PUSH_POWER: Rig = {
  name: 'push-power',
  title: 'power cut at random moments of three pushes, by a frozen disk',
  weight: 4,
  run: async context => await cutInMidPush(context, { env: {}, isEnough: () => context.tally.cycles > 0 }),
}

/** Control of the rig above: without fsync it must fail. */
export const PUSH_POWER_CONTROL: Rig = {
  name: 'push-power-control',
  title: 'negative control: the same pushes with fsync and fdatasync doing nothing',
  weight: 1,
  run: async context => {
    if (!existsSync(EAT_MY_DATA)) throw new NotRun('libeatmydata is not installed')
    const seen = new Tally()
    const lost = (): number => Number(seen.get('acknowledged and lost') ?? 0)
    await cutInMidPush(
      { ...context, tally: seen },
      // A short run may cut before anything is acknowledged.
      { env: { LD_PRELOAD: EAT_MY_DATA }, isEnough: () => lost() > 0 || seen.cycles >= CONTROL_CYCLES_MAX },
    )
    const { tally } = context
    tally.cycles = seen.cycles
    tally.figure('acknowledged and lost', lost())
    if (lost() === 0) tally.violate('nothing was lost without fsync: the rig proves nothing')
    else tally.figure('seen to fail', 'yes')
  },
}
