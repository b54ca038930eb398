import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cut, html, longText } from '../../../src/admin/page/html.ts'

test('text in a template is escaped, in an element and in an attribute', () => {
  const text = `<script>alert("1")</script>' & co`
  const escaped = '&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&#39; &amp; co'
  assert.equal(html`<p title="${text}">${text}</p>`.text, `<p title="${escaped}">${escaped}</p>`)
})

test('a template within a template is not escaped again, and lists are joined', () => {
  const items = ['a', '<b>'].map(item => html`<li>${item}</li>`)
  assert.equal(html`<ul>${items}</ul>${undefined}${false}${3}`.text, '<ul><li>a</li><li>&lt;b&gt;</li></ul>3')
})

test('characters that hide or turn text around are shown by their numbers', () => {
  const name = 'abc\u202egpj.exe\u0000\u200b\u2066\ufeff\u{e0041}\u001b[31m'
  const shown = html`${name}`.text
  assert.equal(shown, 'abc[U+202E]gpj.exe[U+0000][U+200B][U+2066][U+FEFF][U+E0041][U+001B][31m')
  assert.equal(longText('a\u202e\n\tb').text, 'a[U+202E]\n\tb')
})

test('letters of every script are shown as they are', () => {
  assert.equal(html`${'Ünïcode 日本語 עברית 🐳'}`.text, 'Ünïcode 日本語 עברית 🐳')
})

test('a text of 10 MB is cut, and never within a character', () => {
  assert.equal(html`${'x'.repeat(10_000_000)}`.text.length, 2001)
  assert.equal(cut(`${'x'.repeat(3)}🐳`, 4), 'xxx…')
  assert.equal(cut('1234', 4), '1234')
})
