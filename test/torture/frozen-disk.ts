import { spawnSync } from 'node:child_process'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { requirePrograms } from './daemon.ts'
import { NotRun } from './rig.ts'

const HOST_BYTES = 4 * 1024 ** 3
const DISK_BYTES = 512 * 1024 ** 2

function run(program: string, ...rest: readonly string[]): void {
  const ran = spawnSync(program, rest)
  if (ran.status !== 0) {
    const said = (ran.stderr ?? Buffer.alloc(0)).toString().trim().split('\n').at(-1)
    throw new NotRun(`${program} ${rest.join(' ')}: ${said ?? String(ran.error)}`)
  }
}

/**
 * A disk whose state can be frozen at any moment: an ext4 image inside a btrfs, both on loop devices. A copy
 * by reference of the image holds what had reached the disk by then and nothing that the kernel still had in
 * memory, as after a power cut.
 */
export class FrozenDisk implements AsyncDisposable {
  readonly #directory: string
  readonly #mounted: string[] = []

  private constructor(directory: string) {
    this.#directory = directory
  }

  static async make(directory: string): Promise<FrozenDisk> {
    requirePrograms('mkfs.btrfs', 'mkfs.ext4', 'mount', 'umount', 'losetup')
    const disk = new FrozenDisk(directory)
    try {
      for (const name of ['host', 'disk', 'cut']) await mkdir(join(directory, name))
      run('truncate', '-s', String(HOST_BYTES), join(directory, 'host.img'))
      run('mkfs.btrfs', '-q', join(directory, 'host.img'))
      disk.#mount(join(directory, 'host.img'), 'host', 'loop')
      run('truncate', '-s', String(DISK_BYTES), join(directory, 'host/disk.img'))
      run('mkfs.ext4', '-q', '-F', join(directory, 'host/disk.img'))
      // The journal is written every second, so that cuts see every stage of a rename without a sync.
      disk.#mount(join(directory, 'host/disk.img'), 'disk', 'loop,commit=1')
    } catch (error) {
      await disk[Symbol.asyncDispose]()
      throw error
    }
    return disk
  }

  get path(): string {
    return join(this.#directory, 'disk')
  }

  /** Freezes the current state of the disk and mounts the frozen copy, which replays its journal. */
  async cut(look: (path: string) => Promise<void>): Promise<void> {
    const image = join(this.#directory, 'host/cut.img')
    run('cp', '--reflink=always', join(this.#directory, 'host/disk.img'), image)
    this.#mount(image, 'cut', 'loop')
    try {
      await look(join(this.#directory, 'cut'))
    } finally {
      this.#unmount('cut')
      await rm(image)
    }
  }

  #mount(image: string, name: string, options: string): void {
    run('mount', '-o', options, image, join(this.#directory, name))
    this.#mounted.push(name)
  }

  #unmount(name: string): void {
    const at = this.#mounted.lastIndexOf(name)
    if (at >= 0) this.#mounted.splice(at, 1)
    const path = join(this.#directory, name)
    if (spawnSync('umount', [path]).status !== 0) spawnSync('umount', ['-l', path])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of this.#mounted.toReversed()) this.#unmount(name)
    await Promise.resolve()
  }
}
