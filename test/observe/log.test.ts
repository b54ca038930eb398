import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Secret } from '../../src/config/secret.ts'
import { clip, openLog } from '../../src/observe/log.ts'

function writeLine(fields: object, message = 'said'): Record<string, unknown> {
  const lines: string[] = []
  openLog('info', { write: line => void lines.push(line) }).info(fields, message)
  assert.equal(lines.length, 1)
  const [line] = lines
  assert.equal(line?.indexOf('\n'), line === undefined ? undefined : line.length - 1)
  return JSON.parse(line ?? '') as Record<string, unknown>
}

test('a line is one JSON object with level, ISO time, fields and message', () => {
  const { time, ...rest } = writeLine({ digest: 'sha256:x' }, 'fill finished')
  assert.deepEqual(rest, { level: 'info', digest: 'sha256:x', msg: 'fill finished' })
  assert.match(String(time), /^[0-9]{4}-[0-9]{2}-[0-9]{2}T.*Z$/)
})

test('text with line breaks stays one line', () => {
  assert.equal(
    writeLine({ userAgent: 'a\nb\r\u2028{"level":"error"}' })['userAgent'],
    'a\nb\r\u2028{"level":"error"}',
  )
})

for (const name of ['authorization', 'cookie', 'password', 'token', 'secretKey', 'accessKey']) {
  test(`${name} is redacted wherever in the fields it stands`, () => {
    const line = JSON.stringify(
      writeLine({ [name]: 'hunter2', a: { [name]: 'hunter2', b: { [name]: 'hunter2' } } }),
    )
    assert.ok(!line.includes('hunter2'))
    assert.equal(line.match(/\[redacted\]/g)?.length, 3)
  })
}

test('a secret is redacted under any name', () => {
  assert.ok(!JSON.stringify(writeLine({ anything: new Secret('hunter2') })).includes('hunter2'))
})

test('an error is told with the codes and messages of all its causes, outermost first', () => {
  const innermost = Object.assign(new Error('no space left'), { code: 'ENOSPC' })
  const error = new Error('cannot adopt', { cause: new TypeError('cannot sync', { cause: innermost }) })
  const { messages } = writeLine({ err: error })['err'] as { messages: unknown }
  assert.deepEqual(messages, [
    'Error: cannot adopt',
    'TypeError: cannot sync',
    'Error [ENOSPC]: no space left',
  ])
})

test('a chain of causes that leads back into itself ends', () => {
  const error = new Error('round')
  error.cause = error
  const { messages } = writeLine({ err: error })['err'] as { messages: unknown[] }
  assert.ok(messages.length <= 8)
})

test('what is thrown and is no error is told as text', () => {
  assert.deepEqual(writeLine({ err: 'thrown text' })['err'], { messages: ['thrown text'] })
})

test('lines below the level are not written', () => {
  const lines: string[] = []
  const log = openLog('warn', { write: line => void lines.push(line) })
  log.debug({}, 'a')
  log.info({}, 'b')
  log.warn({}, 'c')
  log.error({}, 'd')
  assert.deepEqual(
    lines.map(line => (JSON.parse(line) as { msg: unknown }).msg),
    ['c', 'd'],
  )
})

test('text of 256 characters is kept, and longer text is cut to it', () => {
  assert.equal(clip('x'.repeat(256)).length, 256)
  assert.equal(clip('x'.repeat(257)), `${'x'.repeat(256)}…`)
})

test('a line whose fields are JSON already is the same line, and is written only where info is', () => {
  const lines: string[] = []
  const output = { write: (line: string) => void lines.push(line) }
  const fields = { method: 'GET', userAgent: 'a"\\b\u2028\n', sentBytes: 5, missing: undefined }
  const log = openLog('info', output)
  log.info(fields, 'request')
  log.infoJson?.(JSON.stringify(fields), 'request')
  const [first = '', second = ''] = lines.map(line => line.replace(/"time":"[^"]*"/, '"time":""'))
  assert.equal(second, first)
  assert.match(lines[1] ?? '', /"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"/)
  openLog('warn', output).infoJson?.(JSON.stringify(fields), 'request')
  assert.equal(lines.length, 2)
})
