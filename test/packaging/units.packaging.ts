import assert from 'node:assert/strict'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { parse } from 'yaml'
import { createMetrics } from '../../src/observe/metrics.ts'
import { runCommandLine } from '../cli/rig.ts'
import { need, ROOT, run, runOk, skipWithout } from './rig/tools.ts'

const UNIT = join(ROOT, 'examples/systemd/entrepot.service')
let directory: string

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'entrepot-units-'))
})

after(async () => {
  await rm(directory, { recursive: true })
})

/** Writes the unit with a program that exists, since systemd checks that. */
async function installedUnit(): Promise<string> {
  const program = join(directory, 'bin/entrepot')
  await mkdir(join(directory, 'bin'), { recursive: true })
  await writeFile(program, '#!/bin/sh\n')
  await chmod(program, 0o755)
  const file = join(directory, 'entrepot.service')
  const text = await readFile(UNIT, 'utf8')
  await writeFile(file, text.replace('/usr/local/bin/entrepot', program))
  return file
}

test('systemd reports no problem with the unit', { skip: skipWithout('systemd-analyze') }, async () => {
  const { code, stdout, stderr } = await run([need('systemd-analyze'), 'verify', await installedUnit()])
  assert.equal(`${stdout}${stderr}`, '')
  assert.equal(code, 0)
})

test('systemd rates the exposure of the unit below 2 of 10', {
  skip: skipWithout('systemd-analyze'),
}, async () => {
  const flags = ['security', '--offline=true', '--no-pager', '--threshold=20']
  const { code, stdout } = await run([need('systemd-analyze'), ...flags, await installedUnit()])
  assert.equal(code, 0, stdout.slice(-400))
})

test('the unit limits memory and reaches neither link-local addresses nor metadata services', async () => {
  const text = await readFile(UNIT, 'utf8')
  assert.match(text, /^MemoryMax=\d+[MG]$/m)
  const denied = /^IPAddressDeny=(.*)$/m.exec(text)?.[1]?.split(' ') ?? []
  for (const range of ['169.254.0.0/16', '100.100.100.200/32', 'fe80::/10', 'fd00:ec2::254/128']) {
    assert.ok(denied.includes(range), range)
  }
})

test("the daemon accepts the unit's command line and upstream file", async () => {
  const [, line = ''] = /^ExecStart=\S+ (.*)$/m.exec(await readFile(UNIT, 'utf8')) ?? []
  const words = line
    .replace('/etc/entrepot/', `${join(ROOT, 'examples/systemd')}/`)
    .replace(/\$\{STATE_DIRECTORY\}/, '/var/lib/entrepot')
    .split(' ')
  const ran = await runCommandLine(['check', ...words])
  assert.equal(ran.code, 0, ran.stderr)
  assert.match(ran.stdout, /^root: +\/var\/lib\/entrepot /m)
})

interface Rule {
  readonly alert: string
  readonly expr: string
  readonly annotations: Readonly<Record<string, string>>
}

const ALERTS = join(ROOT, 'helm/entrepot/files/alerts.yaml')

test('Prometheus accepts the alert rules', { skip: skipWithout('promtool') }, async () => {
  const stdout = await runOk([need('promtool'), 'check', 'rules', ALERTS])
  assert.match(stdout, /SUCCESS: 13 rules found/)
})

test('each alert fires on what it is about, and none does on a mirror in order', {
  skip: skipWithout('promtool'),
}, async () => {
  const cases = await readFile(new URL('alerts-test.yaml', import.meta.url), 'utf8')
  const file = join(directory, 'alerts-test.yaml')
  await writeFile(file, cases.replace('[RULES]', `[${ALERTS}]`))
  const { code, stdout, stderr } = await run([need('promtool'), 'test', 'rules', file])
  assert.equal(code, 0, `${stdout}${stderr}`)
})

test('the runbook has a section for every alert, which its annotation names', async () => {
  const { groups } = parse(await readFile(ALERTS, 'utf8')) as {
    groups: readonly { rules: readonly Rule[] }[]
  }
  const runbook = await readFile(join(ROOT, 'docs/runbook.md'), 'utf8')
  const sections = [...runbook.matchAll(/^## (\w+)$/gm)].map(([, name = '']) => name)
  const alerts = groups.flatMap(({ rules }) => rules)
  assert.deepEqual(sections.toSorted(), alerts.map(({ alert }) => alert).toSorted())
  for (const { alert, annotations } of alerts)
    assert.equal(annotations['runbook'], `docs/runbook.md#${alert.toLowerCase()}`)
})

test("Prometheus accepts the dashboard's expressions", { skip: skipWithout('promtool') }, async () => {
  const expressions = dashboardExpressions(
    await readFile(join(ROOT, 'helm/entrepot/files/dashboard.json'), 'utf8'),
  )
  assert.ok(expressions.length > 15)
  const rules = expressions.map((expr, index) => ({
    record: `panel:${index}`,
    expr: expr.replaceAll('$__rate_interval', '5m').replaceAll('$__range', '1h').replaceAll(/\$\w+/g, '.*'),
  }))
  const file = join(directory, 'dashboard-rules.yaml')
  await writeFile(file, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }))
  await runOk([need('promtool'), 'check', 'rules', file])
})

test('alert rules and dashboard name only metrics and labels that the daemon has', async () => {
  const { groups } = parse(await readFile(ALERTS, 'utf8')) as {
    groups: readonly { rules: readonly Rule[] }[]
  }
  const dashboard = await readFile(join(ROOT, 'helm/entrepot/files/dashboard.json'), 'utf8')
  const expressions = [
    ...groups.flatMap(({ rules }) => rules.map(({ expr }) => expr)),
    ...dashboardExpressions(dashboard),
  ]
  const { text } = await createMetrics().render()
  const known = new Set([...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name))
  const named = expressions.flatMap(expr =>
    [...expr.matchAll(/\b(?:entrepot|process|nodejs)_\w+/g)].map(([name]) => name),
  )
  assert.ok(named.length > 30)
  for (const name of named) assert.ok(known.has(name) || known.has(name.replace(/_bucket$/, '')), name)
})

function dashboardExpressions(text: string): readonly string[] {
  const { panels } = JSON.parse(text) as { panels: readonly { targets: readonly { expr: string }[] }[] }
  return panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))
}
