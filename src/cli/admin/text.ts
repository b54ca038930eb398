import { widthOf } from '../style.ts'

/** Rows in aligned columns, of which the first row is the heading. Columns in `right` are right-aligned. */
export function tableText(
  rows: readonly (readonly string[])[],
  right: ReadonlySet<number> = new Set(),
): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map(row => widthOf(row[column] ?? ''))))
  const lines = rows.map(row =>
    row
      .map((cell, column) => padded(cell, widths[column] ?? 0, right.has(column)))
      .join('  ')
      .trimEnd(),
  )
  return lines.join('\n')
}

/** Pads a cell that may have colours, which take no room. */
function padded(cell: string, width: number, isRight: boolean): string {
  const blanks = ' '.repeat(Math.max(0, width - widthOf(cell)))
  return isRight ? `${blanks}${cell}` : `${cell}${blanks}`
}

/** A progress bar for a part from 0 to 1. */
export function barText(part: number, width: number): string {
  const full = Math.round(Math.min(1, Math.max(0, part)) * width)
  return `${'█'.repeat(full)}${'░'.repeat(width - full)}`
}
