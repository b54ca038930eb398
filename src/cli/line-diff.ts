/** Number of unchanged lines shown around a change. */
const CONTEXT_LINES = 3
const LINES_MAX = 2000

type Edit = { readonly sign: ' ' | '-' | '+'; readonly line: string }

/**
 * The difference of two texts in the form of `diff -u`, with a header for the file; empty if the texts are
 * the same. `undefined` is a file that does not exist yet. Texts of more than 2,000 lines are shown as
 * removed and added as a whole.
 */
export function lineDiff(name: string, before: string | undefined, after: string): string {
  if (before === after) return ''
  const edits = editsBetween(linesOf(before ?? ''), linesOf(after))
  const from = before === undefined ? '/dev/null' : name
  return `--- ${from}\n+++ ${name}\n${hunksOf(edits).join('')}`
}

function linesOf(text: string): string[] {
  const lines = text.split('\n')
  if (lines.at(-1) === '') lines.pop()
  return lines
}

function editsBetween(before: readonly string[], after: readonly string[]): Edit[] {
  if (before.length > LINES_MAX || after.length > LINES_MAX) return [...removed(before), ...added(after)]
  const lengths = commonLengths(before, after)
  const edits: Edit[] = []
  let row = 0
  let column = 0
  while (row < before.length && column < after.length) {
    const [left = '', right = ''] = [before[row], after[column]]
    if (left === right) {
      edits.push({ sign: ' ', line: left })
      row += 1
      column += 1
    } else if ((lengths[row + 1]?.[column] ?? 0) >= (lengths[row]?.[column + 1] ?? 0)) {
      edits.push({ sign: '-', line: left })
      row += 1
    } else {
      edits.push({ sign: '+', line: right })
      column += 1
    }
  }
  return [...edits, ...removed(before.slice(row)), ...added(after.slice(column))]
}

/** At [row][column]: length of the longest common subsequence of the lines from there to the end. */
function commonLengths(before: readonly string[], after: readonly string[]): readonly Uint16Array[] {
  const lengths = Array.from({ length: before.length + 1 }, () => new Uint16Array(after.length + 1))
  for (let row = before.length - 1; row >= 0; row -= 1) {
    for (let column = after.length - 1; column >= 0; column -= 1) {
      const [here, below] = [lengths[row], lengths[row + 1]]
      if (here === undefined || below === undefined) continue
      here[column] =
        before[row] === after[column]
          ? (below[column + 1] ?? 0) + 1
          : Math.max(below[column] ?? 0, here[column + 1] ?? 0)
    }
  }
  return lengths
}

function removed(lines: readonly string[]): Edit[] {
  return lines.map(line => ({ sign: '-', line }))
}

function added(lines: readonly string[]): Edit[] {
  return lines.map(line => ({ sign: '+', line }))
}

function hunksOf(edits: readonly Edit[]): string[] {
  const hunks: string[] = []
  let index = edits.findIndex(({ sign }) => sign !== ' ')
  while (index !== -1) {
    const start = Math.max(0, index - CONTEXT_LINES)
    let end = index
    for (let at = index; at < edits.length && at <= end + 2 * CONTEXT_LINES; at += 1) {
      if (edits[at]?.sign !== ' ') end = at
    }
    const stop = Math.min(edits.length, end + CONTEXT_LINES + 1)
    hunks.push(hunk(edits, start, stop))
    const next = edits.slice(stop).findIndex(({ sign }) => sign !== ' ')
    index = next === -1 ? -1 : stop + next
  }
  return hunks
}

function hunk(edits: readonly Edit[], start: number, stop: number): string {
  const before = edits.slice(0, start)
  const inside = edits.slice(start, stop)
  const range = (other: '-' | '+'): string => {
    const first = before.filter(({ sign }) => sign !== other).length
    const count = inside.filter(({ sign }) => sign !== other).length
    return `${count === 0 ? first : first + 1},${count}`
  }
  const lines = inside.map(({ sign, line }) => `${sign}${line}\n`)
  return `@@ -${range('+')} +${range('-')} @@\n${lines.join('')}`
}
