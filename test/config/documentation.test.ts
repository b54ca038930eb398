import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { ENTRY_KEYS } from '../../src/config/file/entry.ts'
import { readYamlFile } from '../../src/config/file/yaml-file.ts'
import { formatProblem } from '../../src/config/problem.ts'
import { FLAGS, SETTINGS } from '../../src/config/settings.ts'
import { sectionsOf } from '../support/sections.ts'

const text = await readFile(new URL('../../docs/configuration.md', import.meta.url), 'utf8')
const [ofFlags = '', ofFile = ''] = text.split('## The upstream file')

/** The cells of every row of every table in a part of the document. */
function rowsOf(part: string): readonly (readonly string[])[] {
  const rows = part.split('\n').filter(line => line.startsWith('| ') && !/^\| (?:---|flag|key) /.test(line))
  return rows.map(line =>
    line
      .split('|')
      .slice(1, -1)
      .map(cell => cell.trim()),
  )
}

test('the document has a row for every flag, with its variable and its default, and no other row', () => {
  const rows = rowsOf(ofFlags).filter(([flag]) => flag !== '–')
  const documented = rows.map(([flag = '', variable = '']) => `${flag} ${variable}`)
  const known = FLAGS.map(flag => `\`--${flag}\` \`${SETTINGS[flag].environment}\``)
  assert.deepEqual(documented.toSorted(), known.toSorted())
  for (const [name = '', , stated = ''] of rows) {
    const setting = SETTINGS[name.slice(3, -1) as keyof typeof SETTINGS]
    if (setting.default !== undefined) assert.equal(stated, `\`${setting.default}\``, name)
  }
})

test('the document has a row for every key of the upstream file, in their order, and no other row', () => {
  assert.deepEqual(
    rowsOf(ofFile.slice(ofFile.indexOf('| key of an upstream |'))).map(([key]) => key),
    ENTRY_KEYS.map(key => `\`${key}\``),
  )
})

test("the document's example of an upstream file has known keys only", () => {
  const [, yaml = ''] = /```yaml\n(.*?)```/s.exec(ofFile) ?? []
  const { entries, problems } = readYamlFile(yaml, 'example')
  assert.deepEqual(problems.map(formatProblem), [])
  assert.equal(entries.length, 2)
  for (const entry of entries) {
    for (const key of entry.values.keys())
      assert.ok(
        ENTRY_KEYS.some(known => known === key),
        key,
      )
  }
})

test('every example of docs/access.md is a file that the mirror accepts', async () => {
  const access = await readFile(new URL('../../docs/access.md', import.meta.url), 'utf8')
  const examples = [...access.matchAll(/```yaml\n(.*?)```/gs)].map(([, yaml = '']) => yaml)
  assert.ok(examples.length >= 4)
  for (const yaml of examples) {
    // The file of users is the reader's own.
    const { rules, auth } = sectionsOf(yaml.replace('  htpasswd_file: users\n', ''))
    assert.ok(rules.length > 0 && (auth.issuers.length > 0 || auth.groups.size > 0), yaml)
  }
})
