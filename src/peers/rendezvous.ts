import { createHash } from 'node:crypto'

/** A text as two numbers of 32 bits, which {@link weightOf} mixes. */
export interface Seed {
  readonly high: number
  readonly low: number
}

/** The seed of a text. */
export function seedOf(text: string): Seed {
  const hash = createHash('sha256').update(text).digest()
  return { high: hash.readUInt32BE(0), low: hash.readUInt32BE(4) }
}

/**
 * Weight of a member for a key (rendezvous hashing): of all members, the one with the highest weight owns the
 * key. All replicas compute the same. If a member comes or goes, only its own keys move. Mixes numbers
 * instead of hashing texts, because ten thousand members are weighed for each question.
 */
function weightOf(member: Seed, key: Seed): number {
  const high = mixed(Math.imul(member.high ^ key.low, 0x9e3779b1) ^ mixed(member.low ^ key.high))
  const low = mixed(Math.imul(member.low ^ high, 0x85ebca77) ^ key.low)
  return (high >>> 0) * 0x200000 + (low >>> 11)
}

/** The finalizer of MurmurHash3: every bit of the input changes half of the bits of the output. */
function mixed(value: number): number {
  let bits = value
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b)
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35)
  return bits ^ (bits >>> 16)
}

/** Yields the members from the highest weight to the lowest. Equal weights go by name. */
export function* inOrder<T extends { readonly seed: Seed; readonly name: string }>(
  members: Iterable<T>,
  key: Seed,
): Generator<T> {
  const rest = new Map<T, number>()
  for (const member of members) rest.set(member, weightOf(member.seed, key))
  while (rest.size > 0) {
    const first = heaviest(rest)
    if (first === undefined) return
    rest.delete(first)
    yield first
  }
}

function heaviest<T extends { readonly name: string }>(weights: ReadonlyMap<T, number>): T | undefined {
  let best: readonly [T, number] | undefined
  for (const entry of weights) {
    const [member, weight] = entry
    if (best === undefined || weight > best[1] || (weight === best[1] && member.name < best[0].name))
      best = entry
  }
  return best?.[0]
}
