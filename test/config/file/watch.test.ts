import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { FileWatch } from '../../../src/config/file/watch.ts'

/** A watch in a directory of its own, and a count of its events that can be waited for. */
class Rig implements AsyncDisposable {
  readonly directory: string
  readonly file: string
  readonly #watch: FileWatch
  #count = 0
  #changed = Promise.withResolvers<void>()

  private constructor(directory: string, file: string, settleMs: number) {
    this.directory = directory
    this.file = file
    const changed = (): void => {
      this.#count += 1
      this.#changed.resolve()
      this.#changed = Promise.withResolvers()
    }
    this.#watch = new FileWatch(file, { changed, failed: assert.ifError }, settleMs)
  }

  static async open(prepare: (directory: string) => Promise<string>, settleMs = 5): Promise<Rig> {
    const directory = await mkdtemp(join(tmpdir(), 'entrepot-watch-'))
    const rig = new Rig(directory, await prepare(directory), settleMs)
    await rig.#watch.start()
    return rig
  }

  get count(): number {
    return this.#count
  }

  /** Resolves at the next change after `action` began. */
  async changedBy(action: () => Promise<void>): Promise<void> {
    const { promise } = this.#changed
    const keepAlive = setInterval(() => {}, 1000)
    await action()
    await promise
    clearInterval(keepAlive)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#watch[Symbol.dispose]()
    await rm(this.directory, { recursive: true })
  }
}

async function plainFile(directory: string): Promise<string> {
  const file = join(directory, 'upstreams.yaml')
  await writeFile(file, 'one')
  return file
}

test('a write in place and a rename over the file are changes', async () => {
  await using rig = await Rig.open(plainFile)
  await rig.changedBy(async () => {
    await writeFile(rig.file, 'two')
  })
  await rig.changedBy(async () => {
    await writeFile(`${rig.file}.new`, 'three')
    await rename(`${rig.file}.new`, rig.file)
  })
  assert.ok(rig.count >= 2)
})

test('other files in the directory, and the same bytes again, are not a change', async () => {
  await using rig = await Rig.open(plainFile)
  await writeFile(join(rig.directory, 'other'), 'x')
  await writeFile(`${rig.file}.new`, 'one')
  await rename(`${rig.file}.new`, rig.file)
  await rig.changedBy(async () => {
    await writeFile(`${rig.file}.new`, 'two')
    await rename(`${rig.file}.new`, rig.file)
  })
  assert.equal(rig.count, 1)
})

test('a change is noticed although others write to the directory without a pause', {
  timeout: 10_000,
}, async () => {
  await using rig = await Rig.open(plainFile, 30)
  const noticed = new AbortController()
  const noise = async (): Promise<void> => {
    while (!noticed.signal.aborted) await writeFile(join(rig.directory, 'noise'), String(Math.random()))
  }
  const writing = noise()
  await rig.changedBy(async () => {
    await writeFile(rig.file, 'two')
  })
  noticed.abort()
  await writing
})

test('a file that is removed and created with other bytes changes once', async () => {
  await using rig = await Rig.open(plainFile)
  await rm(rig.file)
  await rig.changedBy(async () => {
    await writeFile(`${rig.file}.new`, 'two')
    await rename(`${rig.file}.new`, rig.file)
  })
  assert.equal(rig.count, 1)
})

test("Kubernetes' swap of the ..data link is a change, again and again", async () => {
  const publish = async (directory: string, version: string): Promise<void> => {
    await mkdir(join(directory, `..${version}`))
    await writeFile(join(directory, `..${version}`, 'upstreams.yaml'), version)
    await symlink(`..${version}`, join(directory, '..data_tmp'))
    await rename(join(directory, '..data_tmp'), join(directory, '..data'))
  }
  await using rig = await Rig.open(async directory => {
    await publish(directory, 'v1')
    await symlink('..data/upstreams.yaml', join(directory, 'upstreams.yaml'))
    return join(directory, 'upstreams.yaml')
  })
  for (const [before, version] of [
    ['v1', 'v2'],
    ['v2', 'v3'],
  ] as const) {
    await rig.changedBy(async () => {
      await publish(rig.directory, version)
      await rm(join(rig.directory, `..${before}`), { recursive: true })
    })
  }
  assert.equal(rig.count, 2)
})

test('a change of the target of a link in another directory is noticed', async () => {
  await using rig = await Rig.open(async directory => {
    await mkdir(join(directory, 'real'))
    await mkdir(join(directory, 'named'))
    await writeFile(join(directory, 'real', 'u.yaml'), 'one')
    await symlink('../real/u.yaml', join(directory, 'named', 'u.yaml'))
    return join(directory, 'named', 'u.yaml')
  })
  await rig.changedBy(async () => {
    await writeFile(join(rig.directory, 'real', 'u.yaml.new'), 'two')
    await rename(join(rig.directory, 'real', 'u.yaml.new'), join(rig.directory, 'real', 'u.yaml'))
  })
  assert.equal(rig.count, 1)
})

test('a directory that cannot be watched is reported, and does not throw', async () => {
  const failures: unknown[] = []
  using watch = new FileWatch('/nonexistent/directory/u.yaml', {
    changed: () => assert.fail('nothing can change'),
    failed: error => failures.push(error),
  })
  await watch.start()
  assert.equal(failures.length, 1)
})

test('after a directory is replaced, changes in the new one are noticed', async () => {
  await using rig = await Rig.open(async directory => {
    await mkdir(join(directory, 'mount'))
    return await plainFile(join(directory, 'mount'))
  })
  const mount = join(rig.directory, 'mount')
  await mkdir(`${mount}.new`)
  await writeFile(join(`${mount}.new`, 'upstreams.yaml'), 'two')
  await rig.changedBy(async () => {
    await rename(mount, `${mount}.old`)
    await rename(`${mount}.new`, mount)
  })
  await rig.changedBy(async () => {
    await writeFile(rig.file, 'three')
  })
  assert.ok(rig.count >= 2)
})
