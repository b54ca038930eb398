import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { hashSync } from 'bcryptjs'
import { openS3Store } from '../../src/storage/s3/store.ts'
import type { Store } from '../../src/storage/store.ts'
import { addressOf, seenS3Events } from '../storage/s3/rooms.ts'
import { accessOf, sectionsOf } from '../support/hosted.ts'
import { startMirror } from '../support/mirror.ts'
import { startS3Stub } from '../support/s3-stub.ts'
import { sectionsOf as parsedSections } from '../support/sections.ts'
import { BLOB_CHECKS } from './blob-checks.ts'
import { CLIENT_CHECKS } from './client-checks.ts'
import { IMAGE_CHECKS } from './image-checks.ts'
import { RegistryClient } from './registry.ts'

const NOWHERE = '127.0.0.1:9'
const LOGIN = { authorization: `Basic ${Buffer.from('ci:secret').toString('base64')}` }

type Undo = AsyncDisposableStack

async function makeDirectory(undo: Undo): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'entrepot-conformance-'))
  undo.defer(async () => await rm(path, { recursive: true, force: true }))
  return path
}

async function openBucket(undo: Undo): Promise<Store> {
  const stub = undo.use(await startS3Stub())
  const spoolDirectory = await makeDirectory(undo)
  return await openS3Store({ address: addressOf(stub), spoolDirectory, events: seenS3Events() })
}

/** A daemon that lets everybody push, over a store, by default a file system. */
async function startOpen(undo: Undo, store?: Store): Promise<RegistryClient> {
  const config = { sections: sectionsOf({ 'docker.io/conformance/**': undefined }) }
  const overrides = { access: accessOf(true), ...(store === undefined ? {} : { store }) }
  const { daemon } = undo.use(await startMirror({ upstream: NOWHERE, config, overrides }))
  return undo.use(new RegistryClient(daemon.addresses.client))
}

/** A daemon over a bucket that lets one user in, and nobody else. */
async function startClosed(undo: Undo): Promise<RegistryClient> {
  const directory = await makeDirectory(undo)
  await writeFile(join(directory, 'users'), `ci:${hashSync('secret', 4)}\n`)
  const sections = parsedSections(CLOSED, directory)
  const overrides = { store: await openBucket(undo) }
  const { daemon } = undo.use(await startMirror({ upstream: NOWHERE, config: { sections }, overrides }))
  const { client } = daemon.addresses
  using stranger = new RegistryClient(client)
  for (const [method, path] of [
    ['GET', 'tags/list'],
    ['HEAD', 'manifests/v1'],
    ['PUT', 'manifests/v1'],
    ['DELETE', 'manifests/v1'],
    ['POST', 'blobs/uploads/'],
  ] as const)
    assert.equal((await stranger.ask(method, `/v2/conformance/app/${path}`)).status, 401, method)
  return undo.use(new RegistryClient(client, LOGIN))
}

const CLOSED = `
hosted: [{names: 'docker.io/conformance/**'}]
auth: {htpasswd_file: users}
rules:
- {who: ci, names: 'docker.io/conformance/**', may: [pull, push, delete]}
- {who: everyone, may_not: [pull, push, delete]}
`

/** Starts the daemon in one way; `undo` takes everything down. */
const STORES: Readonly<Record<string, (undo: Undo) => Promise<RegistryClient>>> = {
  'a file system': startOpen,
  'a bucket': async undo => await startOpen(undo, await openBucket(undo)),
  'a bucket, with a login': startClosed,
}

for (const [name, start] of Object.entries(STORES)) {
  suite(`the distribution specification, on ${name}`, () => {
    const undo = new AsyncDisposableStack()
    let client: RegistryClient | undefined
    before(async () => {
      client = await start(undo)
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
    for (const { title, run } of [...IMAGE_CHECKS, ...CLIENT_CHECKS])
      test(title, async () => await run(using(), 'sha256'))
  })
}
