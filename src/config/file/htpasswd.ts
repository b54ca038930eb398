import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { Problem } from '../problem.ts'
import type { NamedFile } from './section.ts'

/** The users of a file in the format of htpasswd, each with its hash, and the lines that are refused. */
export interface ReadUsers {
  readonly users: ReadonlyMap<string, string>
  readonly problems: readonly Problem[]
}

const FILE_BYTES_MAX = 1024 * 1024
const NAME_LENGTH_MAX = 128
/** Longest check of one password, as the cost of bcrypt: 14 takes about a second. */
const BCRYPT_COST_MAX = 14
const BCRYPT = /^\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}$/
const ARGON2ID =
  /^\$argon2id\$v=19\$m=([0-9]{1,7}),t=([0-9]{1,2}),p=([0-9]{1,2})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{16,86}$/
const ARGON2_MEMORY_KIB_MAX = 256 * 1024
const ARGON2_PASSES_MAX = 16
const ARGON2_LANES_MAX = 16

/** Words of the rules, which no user can be called. */
const RESERVED: ReadonlySet<string> = new Set(['anonymous', 'authenticated', 'everyone'])

const HASH_HINT = 'htpasswd -B makes a line with bcrypt'

/** Reads the users of `path`, which is relative to the directory of `file`. Never throws. */
export function readUsers(path: string, file: NamedFile): ReadUsers {
  const problemAt = (line: number | undefined, message: string, hint?: string): Problem => {
    return { origin: { kind: 'file', file: path, line }, path: '', message, hint }
  }
  let text: string
  try {
    text = readFileSync(resolve(dirname(file.path), path), 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return {
      users: new Map(),
      problems: [problemAt(undefined, `cannot be read: ${code ?? 'unknown error'}`)],
    }
  }
  if (text.length > FILE_BYTES_MAX)
    return { users: new Map(), problems: [problemAt(undefined, 'is larger than 1 MiB')] }
  const users = new Map<string, string>()
  const problems: Problem[] = []
  for (const [index, content] of text.split(/\r?\n/).entries()) {
    if (content.trim() === '' || content.startsWith('#')) continue
    const { name, hash, refusal, hint } = parseLine(content)
    if (refusal !== undefined) problems.push(problemAt(index + 1, refusal, hint))
    else if (users.has(name)) problems.push(problemAt(index + 1, 'has a user of an earlier line again'))
    else users.set(name, hash)
  }
  return { users, problems }
}

interface Line {
  readonly name: string
  readonly hash: string
  readonly refusal?: string | undefined
  readonly hint?: string | undefined
}

/** Refusals do not repeat the line: it may have a password where a name belongs. */
function parseLine(content: string): Line {
  const colon = content.indexOf(':')
  const [name, hash] = [content.slice(0, Math.max(0, colon)), content.slice(colon + 1)]
  if (!isUserName(name))
    return { name, hash, refusal: 'has no user name', hint: 'a name, a colon, and a hash' }
  if (RESERVED.has(name)) return { name, hash, refusal: `has a user called ${name}, a word of the rules` }
  return { name, hash, ...refusalOfHash(hash) }
}

/** A colon would end the name (RFC 7617), and rules separate the kinds of identities by it. */
function isUserName(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._@+-]*$/.test(text) && text.length <= NAME_LENGTH_MAX
}

function refusalOfHash(hash: string): Pick<Line, 'refusal' | 'hint'> {
  const cost = BCRYPT.exec(hash)?.[1]
  if (cost !== undefined) {
    return Number(cost) >= 4 && Number(cost) <= BCRYPT_COST_MAX
      ? {}
      : { refusal: `has a bcrypt hash of a cost not between 4 and ${BCRYPT_COST_MAX}`, hint: HASH_HINT }
  }
  const argon = ARGON2ID.exec(hash)
  if (argon !== null) {
    const [memory = 0, passes = 0, lanes = 0] = argon.slice(1).map(Number)
    const isCheap =
      memory >= 8 * lanes &&
      memory <= ARGON2_MEMORY_KIB_MAX &&
      passes >= 1 &&
      passes <= ARGON2_PASSES_MAX &&
      lanes >= 1 &&
      lanes <= ARGON2_LANES_MAX
    return isCheap ? {} : { refusal: 'has an argon2id hash beyond 256 MiB, 16 passes or 16 lanes' }
  }
  const kind = OLD_HASHES.find(([pattern]) => pattern.test(hash))?.[1]
  return { refusal: `has ${kind ?? 'an unknown kind of hash, or a plain password'}`, hint: HASH_HINT }
}

const OLD_HASHES: readonly (readonly [RegExp, string])[] = [
  [/^\{SHA\}/, 'a hash of SHA-1 without salt, which is broken'],
  [/^\$apr1\$/, 'a hash of MD5, which is broken'],
  [/^\$[156]\$/, 'a hash of crypt, which is not supported'],
  [/^\$argon2/, 'an argon2 hash that is not argon2id of version 19'],
  [/^[./A-Za-z0-9]{13}$/, 'a hash of the old crypt, which is broken'],
]
