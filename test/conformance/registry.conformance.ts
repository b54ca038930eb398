import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { openS3Store } from '../../src/storage/s3/store.ts'
import { addressOf, seenS3Events } from '../storage/s3/rooms.ts'
import { accessOf, sectionsOf } from '../support/hosted.ts'
import { startMirror, type TestMirror } from '../support/mirror.ts'
import { startS3Stub } from '../support/s3-stub.ts'
import { BLOB_CHECKS } from './blob-checks.ts'
import { IMAGE_CHECKS } from './image-checks.ts'
import { RegistryClient } from './registry.ts'

const NOWHERE = '127.0.0.1:9'
const CONFIG = { sections: sectionsOf({ 'docker.io/conformance/**': undefined }) }

/** Starts the daemon over one kind of store; `undo` takes everything down. */
const STORES: Readonly<Record<string, (undo: AsyncDisposableStack) => Promise<TestMirror>>> = {
  'a file system': async undo => {
    const overrides = { access: accessOf(true) }
    return undo.use(await startMirror({ upstream: NOWHERE, config: CONFIG, overrides }))
  },
  'a bucket': async undo => {
    const stub = undo.use(await startS3Stub())
    const spoolDirectory = await mkdtemp(join(tmpdir(), 'entrepot-conformance-'))
    undo.defer(async () => await rm(spoolDirectory, { recursive: true, force: true }))
    const store = await openS3Store({ address: addressOf(stub), spoolDirectory, events: seenS3Events() })
    const overrides = { access: accessOf(true), store }
    return undo.use(await startMirror({ upstream: NOWHERE, config: CONFIG, overrides }))
  },
}

for (const [name, start] of Object.entries(STORES)) {
  suite(`the distribution specification, on ${name}`, () => {
    const undo = new AsyncDisposableStack()
    let client: RegistryClient | undefined
    before(async () => {
      client = undo.use(new RegistryClient((await start(undo)).daemon.addresses.client))
    })
    after(async () => await undo.disposeAsync())
    const using = (): RegistryClient => {
      assert.ok(client !== undefined)
      return client
    }
    for (const algorithm of ['sha256', 'sha512'] as const) {
      for (const { title, run } of BLOB_CHECKS)
        test(`${algorithm}: ${title}`, async () => await run(using(), algorithm))
    }
    for (const { title, run } of IMAGE_CHECKS) test(title, async () => await run(using(), 'sha256'))
  })
}
