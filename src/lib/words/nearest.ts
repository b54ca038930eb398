/**
 * The candidate that a mistyped word most likely means. Returns `undefined` if every candidate differs in
 * more than a third of the letters.
 */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1
  for (const candidate of candidates) {
    const distance = editDistance(word, candidate)
    if (distance >= bestDistance || distance >= candidate.length) continue
    best = candidate
    bestDistance = distance
  }
  return best
}

const LENGTH_MAX = 64

/** Levenshtein distance. Words longer than 64 characters are never near anything. */
function editDistance(left: string, right: string): number {
  if (left.length > LENGTH_MAX || right.length > LENGTH_MAX) return LENGTH_MAX
  let previous = Array.from({ length: right.length + 1 }, (_, column) => column)
  for (let row = 1; row <= left.length; row += 1) {
    const current = [row]
    for (let column = 1; column <= right.length; column += 1) {
      const replaced = (previous[column - 1] ?? 0) + (left[row - 1] === right[column - 1] ? 0 : 1)
      current.push(Math.min(replaced, (previous[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1))
    }
    previous = current
  }
  return previous[right.length] ?? LENGTH_MAX
}
