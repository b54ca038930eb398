import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import { openLog } from '../../src/observe/log.ts'
import { prettyLines } from '../../src/observe/pretty.ts'

function shown(...lines: readonly object[]): string {
  return stripVTControlCharacters(prettyLines(lines.map(line => `${JSON.stringify(line)}\n`).join('')))
}

const AT = { level: 'info', time: '2026-01-02T03:04:05.678Z' }

test('a request is one line in the order in which people read it, with a short digest', () => {
  const request = {
    ...AT,
    id: 'abc',
    method: 'GET',
    resource: 'blob',
    status: 200,
    outcome: 'hit',
    namespace: 'docker.io',
    repository: 'library/alpine',
    reference: `sha256:${'0123456789ab'.padEnd(64, 'c')}`,
    sentBytes: 7,
    msg: 'request',
  }
  assert.equal(
    shown(request),
    '03:04:05.678 INFO  GET blob docker.io/library/alpine@sha256:0123456789ab 200 hit id=abc sentBytes=7\n',
  )
})

test('an error shows its causes on the same line, and its stack below', () => {
  const messages: string[] = []
  const log = openLog('info', { write: line => void messages.push(line) })
  log.error({ err: new Error('outer', { cause: new Error('inner') }), path: 'a b' }, 'it failed')
  const text = stripVTControlCharacters(prettyLines(messages.join('')))
  assert.match(
    text,
    /^[0-9:.]{12} ERROR it failed path="a b": Error: outer: Error: inner\nError: inner\n {4}at /,
  )
})

test('lines stay lines: what is not JSON, and an empty batch, come out as they are', () => {
  assert.equal(prettyLines('not json\n'), 'not json\n')
  assert.equal(prettyLines(''), '')
  assert.equal(shown({ ...AT, msg: 'one' }, { ...AT, msg: 'two' }).split('\n').length, 3)
})
