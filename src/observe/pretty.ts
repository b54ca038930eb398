import { styleText } from 'node:util'

type Style = Parameters<typeof styleText>[0]

const LEVELS: ReadonlyMap<unknown, { readonly text: string; readonly style: Style }> = new Map([
  ['debug', { text: 'DEBUG', style: 'dim' }],
  ['info', { text: 'INFO ', style: 'green' }],
  ['warn', { text: 'WARN ', style: 'yellow' }],
  ['error', { text: 'ERROR', style: 'red' }],
] as const)

/** Formats JSON lines of the log for people: one line each, without colour where the output has none. */
export function prettyLines(lines: string): string {
  return lines
    .split('\n')
    .map(line => (line === '' ? '' : prettyLine(line)))
    .join('\n')
}

/** A line that is not JSON stays as it is. */
function prettyLine(line: string): string {
  let fields: Record<string, unknown>
  try {
    fields = JSON.parse(line) as Record<string, unknown>
  } catch {
    return line
  }
  const { level, time, msg, err, ...others } = fields
  const { text, style } = LEVELS.get(level) ?? { text: String(level), style: 'reset' }
  const clock = /T([0-9:.]+)Z$/.exec(String(time))?.[1] ?? String(time)
  const head = `${styleText('dim', clock)} ${styleText(style, text)} `
  const body = msg === 'request' ? requestText(others) : `${String(msg)}${fieldsText(others)}`
  return `${head}${body}${errorText(err)}`
}

/** What a client asked for and got, in the order in which people read it. */
function requestText(fields: Record<string, unknown>): string {
  const { method, resource, status, outcome, namespace, repository, reference, ...others } = fields
  const text = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value))
  const separator = text(reference ?? '').includes(':') ? '@' : ':'
  const tail = reference === undefined ? '' : `${separator}${shortText(text(reference))}`
  const name = repository === undefined ? '' : ` ${text(namespace)}/${text(repository)}${tail}`
  const style = Number(status) >= 500 ? 'red' : Number(status) >= 400 ? 'yellow' : 'green'
  const result = outcome === undefined ? '' : ` ${text(outcome)}`
  return `${text(method)} ${text(resource)}${name} ${styleText(style, text(status))}${result}${fieldsText(others)}`
}

function fieldsText(fields: Record<string, unknown>): string {
  return Object.entries(fields)
    .map(([name, value]) => ` ${styleText('dim', `${name}=`)}${valueText(value)}`)
    .join('')
}

function valueText(value: unknown): string {
  if (typeof value !== 'string') return JSON.stringify(value)
  return /^[\w./:@+-]+$/.test(value) ? shortText(value) : JSON.stringify(value)
}

/** Twelve digits of a digest, as other tools show it. */
function shortText(value: string): string {
  return value.replace(/^(sha(?:256|512):[0-9a-f]{12})[0-9a-f]+$/, '$1')
}

/** The messages on the same line, and a stack on lines of its own. */
function errorText(err: unknown): string {
  if (typeof err !== 'object' || err === null) return ''
  const { messages, stack } = err as { readonly messages?: readonly string[]; readonly stack?: string }
  const reasons = messages === undefined ? '' : `: ${messages.join(': ')}`
  return stack === undefined ? reasons : `${reasons}\n${styleText('dim', stack)}`
}
