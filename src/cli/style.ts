import { stripVTControlCharacters, styleText } from 'node:util'
import type { Environment, TextOutput } from './environment.ts'

/** What a text stands for; the colours are these and no others. */
export type Style = 'heading' | 'good' | 'bad' | 'warning' | 'faint'

const FORMATS = {
  heading: 'bold',
  good: 'green',
  bad: 'red',
  warning: 'yellow',
  faint: 'dim',
} as const satisfies Record<Style, Parameters<typeof styleText>[0]>

/** Paints a text for an output. */
export type Paint = (style: Style, text: string) => string

/**
 * Colours on a terminal, and none anywhere else, or if `NO_COLOR` is set (https://no-color.org) or the
 * terminal is dumb. `FORCE_COLOR` asks for them in a pipe.
 */
export function paintFor(output: TextOutput, { env }: Pick<Environment, 'env'>): Paint {
  const isForced = (env['FORCE_COLOR'] ?? '0') !== '0'
  const isWanted = (output.isTTY === true && env['TERM'] !== 'dumb') || isForced
  if (!isWanted || (env['NO_COLOR'] ?? '') !== '') return (_style, text) => text
  return (style, text) => styleText(FORMATS[style], text, { validateStream: false })
}

/** Number of columns that a text takes on a terminal, without its colours. */
export function widthOf(text: string): number {
  return text.includes('\u001B') ? stripVTControlCharacters(text).length : text.length
}
