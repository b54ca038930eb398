import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AuditSink } from '../../src/observe/audit-sink.ts'
import { Events } from '../../src/observe/events.ts'
import { openLog } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'

/** Events whose audit log is read back, beside the daemon's own log. */
function makeRig(): { readonly events: Events; readonly audit: string[]; readonly log: string[] } {
  const [audit, log]: [string[], string[]] = [[], []]
  const output = (lines: string[]): { write(text: string): void } => ({
    write: text => void lines.push(text),
  })
  const sink = new AuditSink(openLog('info', output(audit)))
  return {
    events: new Events(openLog('info', output(log)), createMetrics(), undefined, [sink]),
    audit,
    log,
  }
}

test('an audit entry is one JSON line with who, what, from where and which row, and no line elsewhere', () => {
  const { events, audit, log } = makeRig()
  events.audited({ action: 'push', who: 'alice', what: 'acme/app:1', from: '10.0.0.1', row: 'rules[2]' })
  assert.equal(audit.length, 1)
  const { time, ...line } = JSON.parse(audit[0] ?? '') as Record<string, unknown>
  assert.ok(!Number.isNaN(Date.parse(String(time))))
  assert.deepEqual(line, {
    level: 'info',
    action: 'push',
    who: 'alice',
    what: 'acme/app:1',
    from: '10.0.0.1',
    row: 'rules[2]',
    msg: 'audit',
  })
  assert.deepEqual(log, [])
})

test('a name with line breaks and 10,000 characters makes one short line', () => {
  const { events, audit } = makeRig()
  events.audited({ action: 'login-refused', who: `alice\n{"action":"login"}${'a'.repeat(10_000)}` })
  assert.equal(audit.length, 1)
  assert.equal(audit[0]?.trimEnd().includes('\n'), false)
  assert.ok((audit[0]?.length ?? Infinity) < 1000)
})

test('other events leave no line in the audit log', () => {
  const { events, audit } = makeRig()
  events.warned('careful')
  events.swept(3)
  assert.deepEqual(audit, [])
})
