import { revealed } from '../../lib/words/hidden.ts'

/** Markup whose values are escaped. Only {@link html} and {@link longText} make it. */
export class Html {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

/** What may stand in a template. Text is escaped; `undefined` and `false` show nothing. */
export type Shown = Html | string | number | undefined | false | readonly Shown[]

/** Longest text that a template shows, in characters. */
const TEXT_MAX = 2000

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['&', '&amp;'],
  ['<', '&lt;'],
  ['>', '&gt;'],
  ['"', '&quot;'],
  ["'", '&#39;'],
])

/** A template of markup. All text in it is escaped and cut. */
export function html(parts: TemplateStringsArray, ...values: readonly Shown[]): Html {
  let text = parts[0] ?? ''
  for (const [index, value] of values.entries()) text += textOf(value) + (parts[index + 1] ?? '')
  return new Html(text)
}

/** Text of any length, such as a configuration file to copy. */
export function longText(text: string): Html {
  return new Html(escaped(text))
}

/** The beginning of a text, with `…` if it is longer. Never ends within a surrogate pair. */
export function cut(text: string, max: number): string {
  if (text.length <= max) return text
  return `${text.slice(0, max).replace(/[\ud800-\udbff]$/, '')}…`
}

function textOf(value: Shown): string {
  if (value === undefined || value === false) return ''
  if (value instanceof Html) return value.text
  if (typeof value === 'object') return value.map(textOf).join('')
  return typeof value === 'number' ? String(value) : escaped(cut(value, TEXT_MAX))
}

function escaped(text: string): string {
  return revealed(text, '\n\t').replaceAll(/[&<>"']/g, character => ESCAPES.get(character) ?? '')
}
