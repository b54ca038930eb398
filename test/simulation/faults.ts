import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Root of the repository. */
export const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** A fault that the simulation must see: code that stands in one place of the source, and its replacement. */
export interface Fault {
  readonly name: string
  /** How the code is laid out in lines does not matter. */
  readonly from: string
  readonly to: string
  /** The world that must see it; the one of the mirror by default. */
  readonly world?: 'hosted' | 'replicas'
}

/** A file of the source, and its text with a fault in it. */
export interface FaultyFile {
  readonly path: string
  readonly text: string
}

export const FAULTS: readonly Fault[] = [
  {
    name: 'a fill does not check if the blob has just been stored',
    from: 'if (this.#mayBeStored && (await proofs.holds(this.wanted.digest))) {',
    to: 'if (false as boolean) {',
  },
  {
    name: 'the tail of a growing spool is not held back',
    from: '(sizeBytes ?? writtenBytes) - HELD_BACK_BYTES',
    to: '(sizeBytes ?? writtenBytes)',
  },
  {
    name: 'the tail of a bypassed download is not held back',
    from: 'if (heldBytes - first.bytes.byteLength < HELD_BACK_BYTES) break',
    to: '',
  },
  {
    name: 'a reader whose file fails continues elsewhere after unproved bytes',
    from: "if (this.#state.kind !== 'proved') throw error",
    to: '',
  },
  {
    name: 'unproved stored bytes are completed with right ones',
    from: '&& !stored.isProved()) throw failure',
    to: '&& (false as boolean)) throw failure',
  },
  {
    name: 'the digest of a download is not compared',
    from: 'if (actual === digest) return this.#foreign?.disown?.()',
    to: 'if (true as boolean) return this.#foreign?.disown?.()',
  },
  {
    name: 'a fill that has ended stays in the map',
    from: 'this.#isRunning = false this.#owner.ended(this)',
    to: 'this.#isRunning = false',
  },
  {
    name: 'a reader that is sent elsewhere does not leave the fill',
    from: "leave() return opening.kind === 'stored'",
    to: "return opening.kind === 'stored'",
  },
  {
    name: 'a leftover is not hashed again',
    from: 'if (leftover.hashing !== undefined) download.takeUp(await leftover.hashing)',
    to: '',
  },
  {
    name: 'a repository joins the fill of another one without a link',
    from: '!isFor(running, source)) await this.#requireLink(source, digest)',
    to: '!isFor(running, source)) await Promise.resolve()',
  },
  {
    name: 'a stored blob is shown to a repository without a link',
    from: 'if (!(await this.#parts.links.has(source, digest))) await this.ask(source, digest)',
    to: 'await Promise.resolve()',
  },
  {
    name: 'a stored blob is shown where the registry has failed to answer the first question',
    from: 'await this.#requireLink(wanted.source, wanted.digest)',
    to: 'await Promise.resolve()',
  },
  {
    name: 'a registry that is not configured is trusted',
    from: 'return source.isTrusted || (await this.#parts.links.has(source, digest))',
    to: 'return true',
  },
  {
    name: 'a fill for an untrusted registry uses stored bytes of other registries',
    from: 'return source.isTrusted || !isStranger',
    to: 'return true',
  },
  {
    name: 'bytes sent by a registry that is not configured are not noted',
    from: '(isProved ? links.prove(source, digest) : undefined)',
    to: 'isProved',
  },
  {
    name: 'a caller that checked the store earlier misses a fill that has ended since',
    from: '&& !links.remembers(source, digest)',
    to: '',
  },
  {
    name: 'the leftover of a download is available to all repositories',
    from: 'return isTrusted ? undefined :',
    to: 'return isTrusted !== undefined ? undefined :',
  },
  {
    name: 'the tail of a stored object does not wait for its proof',
    from: '&& !(await proof)) {',
    to: '&& (false as boolean)) {',
  },
  {
    name: 'places of bypassed downloads are not given back',
    from: 'range, held, signal) } finally { leave()',
    to: 'range, held, signal) } finally {',
  },
  {
    name: 'what is uploaded and not named yet is collected',
    from: 'if (!isClaimed && (await this.#isLoose(digest, { ...place, by: undefined }))) return',
    to: 'if (true as boolean) return',
    world: 'hosted',
  },
  {
    name: 'a HEAD that says yes holds nothing',
    from: 'do await shelf.hold(name, name.digest) while',
    to: 'while',
    world: 'hosted',
  },
  {
    name: 'a removal shows no mark to other processes',
    from: "await marks.write(digest, 'removing') const need = await this.#needOf(digest)",
    to: 'const need = await this.#needOf(digest)',
    world: 'hosted',
  },
  {
    name: 'a collection looks for the last time before its mark',
    from: "await marks.write(digest, 'removing') const need = await this.#needOf(digest)",
    to: "const need = await this.#needOf(digest); await marks.write(digest, 'removing')",
    world: 'hosted',
  },
  {
    name: 'a collection takes a storage error for the absence of the manifest that names a blob',
    from: "const manifest = await shelf.content({ kind: 'hosted-manifest', ...place, digest: by })",
    to: "const manifest = await shelf.content({ kind: 'hosted-manifest', ...place, digest: by }).catch(() => undefined)",
    world: 'hosted',
  },
  {
    name: 'an eviction takes a storage error for the absence of holds',
    from: 'if (await this.isHosted(digest)) return undefined',
    to: 'if (await this.isHosted(digest).catch(() => false)) return undefined',
    world: 'hosted',
  },
  {
    name: 'a collection does not wait for the order of the digest',
    from: 'return await publishing.alone(digest, async () => await this.#decide(digest))',
    to: 'return await this.#decide(digest)',
    world: 'hosted',
  },
  {
    name: 'two collections may remove one digest at the same time',
    from: "if ((await store.createRecord(name, NOTHING)).kind === 'exists') {",
    to: "if ((await store.createRecord(name, NOTHING)).kind === 'exists' && (false as boolean)) {",
    world: 'hosted',
  },
  {
    name: 'a manifest that is withdrawn lets go of its holds at once',
    from: 'await shelf.removeContent(name) await reportAct(parties, act)',
    to: 'await shelf.removeContent(name); for await (const held of shelf.heldDigests()) await shelf.letGo(place, held, digest); await reportAct(parties, act)',
    world: 'hosted',
  },
  {
    name: 'an eviction is not announced to other processes',
    from: 'if (notices === undefined) return await action()',
    to: 'if (notices === undefined || (true as boolean)) return await action()',
    world: 'hosted',
  },
  {
    name: 'a replica passes on what it gets from another one, and they wait for each other',
    from: "if (following.has(contentKeyOf(namespace, digest))) return refusal('following')",
    to: '',
    world: 'replicas',
  },
  {
    name: 'two replicas own a blob while the next one in order has not noticed that its owner is dead',
    from: '|| members.ownerOf(key) === member) return found',
    to: '|| (true as boolean)) return found',
    world: 'replicas',
  },
  {
    name: 'the owner of a blob asks other replicas for it',
    from: 'if (member.isSelf) return const instance',
    to: 'if (member.isSelf) continue; const instance',
    world: 'replicas',
  },
  {
    name: 'a replica that asks another registry is believed',
    from: 'identity.text === question.registry',
    to: "identity.text !== ''",
    world: 'replicas',
  },
  {
    name: 'a follower trusts the bytes of a short blob',
    from: 'if (sizeBytes > PROVED_AHEAD_BYTES || !matchesDigest(bytes, digest)) {',
    to: 'if (sizeBytes > PROVED_AHEAD_BYTES) {',
    world: 'replicas',
  },
  {
    name: 'a follower goes on asking a replica that sent wrong bytes',
    from: "member.ignore('it sent content that does not match its digest')",
    to: '',
    world: 'replicas',
  },
  {
    name: 'a follower waits for a replica that does not answer any more',
    from: 'if (readable === undefined) { if (this.#position !== position) return',
    to: 'if (readable === undefined) { if (true as boolean) return',
    world: 'replicas',
  },
]

/**
 * The one file of the source that has the fault's code, with the fault in it. Throws if the code is not there
 * exactly once: then it has changed, and the fault must be stated anew.
 */
export function withFault(texts: ReadonlyMap<string, string>, { name, from, to }: Fault): FaultyFile {
  const words = from.split(/\s+/).map(word => RegExp.escape(word))
  const code = new RegExp(words.join('\\s+'), 'g')
  const places = [...texts].flatMap(([path, text]) => [...text.matchAll(code)].map(() => ({ path, text })))
  const [place] = places
  if (place === undefined || places.length > 1) {
    const paths = places.map(({ path }) => path).join(', ')
    throw new Error(`fault "${name}": its code is in ${places.length} places of the source, not 1: ${paths}`)
  }
  return { path: place.path, text: place.text.replace(code, () => to) }
}

/** The texts of all files below src/, by their paths below the root. */
export async function sourceTexts(): Promise<ReadonlyMap<string, string>> {
  const names = await readdir(join(ROOT, 'src'), { recursive: true })
  const paths = names.filter(name => name.endsWith('.ts')).map(name => join('src', name))
  return new Map(
    await Promise.all(paths.map(async path => [path, await readFile(join(ROOT, path), 'utf8')] as const)),
  )
}
