import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import type { Digest } from '../../src/oci/digest.ts'
import { startMirror, type TestMirror } from '../support/mirror.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import { createGate, type Gate } from '../support/upstream-behaviour.ts'

/** Debian's browser; playwright-core brings none. */
const CHROMIUM = process.env['CHROMIUM'] ?? '/usr/bin/chromium'

/** Bytes of a layer that is held until its gate is open. */
export const HELD_BYTES = 4 * 1024 * 1024

export interface PageRig extends AsyncDisposable {
  readonly upstream: FakeUpstream
  readonly mirror: TestMirror
  readonly browser: Browser
  /** The address of the first page. */
  readonly origin: string
}

/** A mirror with images, and a browser. */
export async function startPageRig(
  options: Partial<Parameters<typeof startMirror>[0]> = {},
): Promise<PageRig> {
  const upstream = await startUpstream()
  for (const [name, tag, bytes] of IMAGES)
    upstream.tag(name, tag, upstream.putImage({ layers: [Buffer.alloc(bytes, name)] }).manifest)
  const mirror = await startMirror({ upstream: upstream.host, ...options })
  const browser = await launchBrowser()
  return {
    upstream,
    mirror,
    browser,
    origin: originOf(mirror),
    [Symbol.asyncDispose]: async () => {
      await browser.close()
      await mirror[Symbol.asyncDispose]()
      await upstream[Symbol.asyncDispose]()
    },
  }
}

export async function launchBrowser(): Promise<Browser> {
  return await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] })
}

/** The address of the first page of a mirror. */
export function originOf({ daemon }: Pick<TestMirror, 'daemon'>): string {
  return `http://${daemon.addresses.admin}/`
}

const IMAGES = [
  ['library/alpine', '3.20', 3_400_000],
  ['library/alpine', 'edge', 3_600_000],
  ['library/postgres', '17', 9_100_000],
  ['grafana/grafana', '12.1.0', 7_300_000],
  ['team/shop', 'v1', 2_000_000],
] as const

/** Pulls some of the images as clients do: manifests of all, layers of some. */
export async function pullImages({ mirror }: Pick<PageRig, 'mirror'>): Promise<void> {
  for (const [name, tag] of IMAGES) {
    const headers = { 'user-agent': 'containerd/2.1.4' }
    const { body } = await mirror.get(`/v2/${name}/manifests/${tag}?ns=docker.io`, headers)
    if (name === 'team/shop') continue
    const { config, layers } = JSON.parse(body.toString()) as {
      readonly config: { readonly digest: string }
      readonly layers: readonly { readonly digest: string }[]
    }
    for (const { digest } of [config, ...layers])
      for (let times = 0; times < 2; times += 1)
        await mirror.get(`/v2/${name}/blobs/${digest}?ns=docker.io`, headers)
  }
}

/** An image whose layer stops in the middle until the gate is opened. */
export function putHeldImage(
  upstream: FakeUpstream,
  name: string,
): { readonly layer: Digest; readonly gate: Gate } {
  const gate = createGate()
  const { manifest, layers } = upstream.putImage({ layers: [Buffer.alloc(HELD_BYTES, name)] })
  upstream.tag(name, 'v1', manifest)
  const [layer] = layers
  assert.ok(layer)
  upstream.on({ path: `/v2/${name}/blobs/${layer}` }, { pause: { at: HELD_BYTES / 2, until: gate.opened } })
  return { layer, gate }
}

/** A window that fails the test for what a strict policy or an air gap would break. */
export interface Watched {
  readonly page: Page
  readonly context: BrowserContext
  /** Fails if anything went wrong since the window was opened. */
  readonly check: () => void
}

/** Opens a window: every violation of the policy, error and request to another host is a failure. */
export async function openWindow(
  { browser, origin }: Pick<PageRig, 'browser' | 'origin'>,
  options: Parameters<Browser['newContext']>[0] = {},
): Promise<Watched> {
  const context = await browser.newContext(options)
  const page = await context.newPage()
  const faults: string[] = []
  page.on('console', message => {
    if (message.type() === 'error' || message.type() === 'warning') faults.push(message.text())
  })
  page.on('pageerror', error => faults.push(String(error)))
  page.on('request', request => {
    if (!request.url().startsWith(origin)) faults.push(`a request to ${request.url()}`)
  })
  page.on('response', response => {
    if (response.status() >= 400) faults.push(`${response.status()} of ${response.url()}`)
  })
  await page.goto(origin)
  return { page, context, check: () => assert.deepEqual(faults, []) }
}

/** Logs in as an administrator. */
export async function logIn({ page }: Watched, origin: string, token: string): Promise<void> {
  await page.goto(`${origin}login`)
  await page.fill('#secret', token)
  await page.click('button:has-text("Log in")')
  await page.locator('button:has-text("Log out")').waitFor()
}

const require = createRequire(import.meta.url)

interface Violation {
  readonly id: string
  readonly nodes: readonly { readonly html: string; readonly failureSummary?: string }[]
}

/** Problems that axe finds on a page: contrast, labels, landmarks, tables. */
export async function accessibilityOf(page: Page): Promise<readonly string[]> {
  await page.evaluate(await readFile(require.resolve('axe-core/axe.min.js'), 'utf8'))
  const violations = await page.evaluate<readonly Violation[]>(
    'axe.run().then(({ violations }) => violations)',
  )
  return violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html ?? ''} ${nodes[0]?.failureSummary ?? ''}`)
}

export const PAGES = [
  '',
  'images',
  'image?name=docker.io/library/alpine:3.20',
  'clients',
  'setup',
  'settings',
  'policy?image=library/alpine:3.20&as=alice',
  'events',
  'login',
] as const
