import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { accessibilityOf, openWindow, PAGES, type PageRig, pullImages, startPageRig } from './rig.ts'

let rig: PageRig

before(async () => {
  rig = await startPageRig()
  await pullImages(rig)
})

after(async () => await rig[Symbol.asyncDispose]())

for (const path of PAGES) {
  test(`${path || 'the first page'} keeps the policy and passes axe, in light and in dark`, async () => {
    for (const colorScheme of ['light', 'dark'] as const) {
      const { page, context, check } = await openWindow(rig, { colorScheme })
      await page.goto(`${rig.origin}${path}`)
      await page.locator('h1').waitFor()
      assert.deepEqual(await accessibilityOf(page), [], colorScheme)
      check()
      await context.close()
    }
  })

  test(`${path || 'the first page'} has all of its content without scripts`, async () => {
    const { page, context, check } = await openWindow(rig, { javaScriptEnabled: false })
    await page.goto(`${rig.origin}${path}`)
    assert.equal(await page.locator('h1').count(), 1)
    assert.equal((await page.locator('main a, main form, main table, main p').count()) > 0, true)
    check()
    await context.close()
  })

  for (const [what, width] of [
    ['narrow phone', 360],
    ['wide screen', 1920],
  ] as const) {
    test(`${path || 'the first page'} fits a ${what}: only tables and snippets scroll sideways`, async () => {
      const { page, context, check } = await openWindow(rig, { viewport: { width, height: 800 } })
      await page.goto(`${rig.origin}${path}`)
      const overflow = await page.evaluate('document.documentElement.scrollWidth - innerWidth')
      assert.ok(Number(overflow) <= 0, `${String(overflow)} pixels too wide`)
      check()
      await context.close()
    })
  }
}

test('every link and every form field is reached by the Tab key, and the first one skips the menu', async () => {
  const { page, context, check } = await openWindow(rig)
  await page.goto(`${rig.origin}images`)
  await page.keyboard.press('Tab')
  assert.equal(await page.evaluate('document.activeElement.textContent'), 'Skip to the content')
  const focusable = await page.locator('a, button, input, select, [tabindex="0"]').count()
  const reached = new Set<string>()
  for (let presses = 0; presses < focusable; presses += 1) {
    reached.add(String(await page.evaluate('document.activeElement.outerHTML')))
    await page.keyboard.press('Tab')
  }
  assert.ok(reached.size > 20, String(reached.size))
  check()
  await context.close()
})

test('on paper the menu and the forms are left out', async () => {
  const { page, context, check } = await openWindow(rig)
  await page.goto(`${rig.origin}images`)
  await page.emulateMedia({ media: 'print' })
  assert.equal(await page.locator('nav').isVisible(), false)
  assert.equal(await page.locator('form').first().isVisible(), false)
  assert.equal(await page.locator('table').first().isVisible(), true)
  check()
  await context.close()
})

test('a filter answers while it is typed, and by its button without scripts', async () => {
  for (const javaScriptEnabled of [true, false]) {
    const { page, context, check } = await openWindow(rig, { javaScriptEnabled })
    await page.goto(`${rig.origin}images`)
    assert.equal(await page.locator('tbody tr').count(), 5)
    await page.fill('#q', 'postgres')
    if (!javaScriptEnabled) await page.click('text=Show')
    await page.locator('tbody tr').nth(1).waitFor({ state: 'detached' })
    assert.equal(await page.locator('tbody th').innerText(), 'docker.io/library/postgres:17')
    assert.match(page.url(), /q=postgres/)
    check()
    await context.close()
  }
})

test('a snippet is copied by its button', async () => {
  const { page, context, check } = await openWindow(rig, {
    permissions: ['clipboard-read', 'clipboard-write'],
  })
  await page.goto(`${rig.origin}setup`)
  await page.locator('button:has-text("Copy")').first().click()
  await page.locator('button:has-text("Copied")').waitFor()
  assert.match(String(await page.evaluate('navigator.clipboard.readText()')), /registry-mirrors/)
  check()
  await context.close()
})
