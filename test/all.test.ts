import assert from 'node:assert/strict'
import { glob, readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../', import.meta.url))

async function filesOf(pattern: string): Promise<readonly string[]> {
  return await Array.fromAsync(glob(pattern, { cwd: ROOT }))
}

test('npm test runs each test file once: by itself, or among those that test/all imports', async () => {
  const { scripts } = JSON.parse(await readFile(`${ROOT}package.json`, 'utf8')) as {
    readonly scripts: Readonly<Record<string, string>>
  }
  const patterns = [...(scripts['test'] ?? '').matchAll(/"(test\/[^"]+)"/g)].map(
    ([, pattern = '']) => pattern,
  )
  const alone = (await Promise.all(patterns.map(filesOf))).flat()
  const groups = await filesOf('test/all/*.ts')
  assert.ok(groups.length > 0)
  assert.deepEqual(
    groups.filter(group => !alone.includes(group)),
    [],
  )
  const texts = await Promise.all(groups.map(async group => await readFile(`${ROOT}${group}`, 'utf8')))
  const whole = texts.flatMap(text =>
    [...text.matchAll(/importTests\((.+)\)/g)].flatMap(([, list = '']) => list.match(/\w+/g) ?? []),
  )
  const parts = texts.flatMap(text => [...text.matchAll(/importPart\('(\w+)', (\d+), (\d+)\)/g)])
  const byFolder = Map.groupBy(parts, ([, folder = '']) => folder)
  for (const [folder, found] of byFolder) {
    const numbers = found.map(([, , part]) => Number(part)).toSorted((a, b) => a - b)
    assert.deepEqual(
      numbers,
      Array.from({ length: Number(found[0]?.[3]) }, (_, part) => part),
      folder,
    )
  }
  const folders = [...whole, ...byFolder.keys()].map(folder => `test/${folder}/**/*.test.ts`)
  const grouped = (await Promise.all(folders.map(filesOf))).flat()
  const run = [...alone.filter(file => !groups.includes(file)), ...grouped]
  assert.deepEqual(run.toSorted(), (await filesOf('test/**/*.test.ts')).toSorted())
})
