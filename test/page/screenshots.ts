/** Takes the screenshots of the documentation: `npm run screenshots` writes them to docs/images/. */
import { mkdir, stat } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { openWindow, pullImages, putHeldImage, startPageRig } from './rig.ts'

const FOLDER = fileURLToPath(new URL('../../docs/images/', import.meta.url))
const SIZE = { width: 1100, height: 760 }

await using rig = await startPageRig()
await mkdir(FOLDER, { recursive: true })
await pullImages(rig)
const { layer, gate } = putHeldImage(rig.upstream, 'pytorch/pytorch')
await rig.mirror.get('/v2/pytorch/pytorch/manifests/v1?ns=docker.io')
const pull = rig.mirror.get(`/v2/pytorch/pytorch/blobs/${layer}?ns=docker.io`)
const shots = [
  ['now', '', 'light'],
  ['images', 'images', 'light'],
  ['image', 'image?name=docker.io/library/postgres:17', 'light'],
] as const
for (const [name, path, colorScheme] of shots) {
  const { page, context } = await openWindow(rig, { viewport: SIZE, colorScheme })
  await page.goto(`${rig.origin}login`)
  await page.click('main >> button:has-text("Log in")')
  await page.goto(`${rig.origin}${path}`)
  if (path === '') await page.locator('progress[value="50"]').waitFor()
  await page.getByText('The index is being rebuilt').waitFor({ state: 'hidden' })
  const file = `${FOLDER}${name}.png`
  await page.screenshot({ path: file })
  process.stdout.write(`${file}: ${(await stat(file)).size} bytes\n`)
  await context.close()
}
gate.open()
await pull
