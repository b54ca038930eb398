import { argon2Sync, timingSafeEqual } from 'node:crypto'
import { compareSync } from 'bcryptjs'

const ARGON2ID = /^\$argon2id\$v=19\$m=([0-9]+),t=([0-9]+),p=([0-9]+)\$([^$]+)\$([^$]+)$/

/** True if the password has this hash, bcrypt or argon2id. Takes up to a second of the thread. */
export function checkPassword(password: string, hash: string): boolean {
  const [, memory, passes, parallelism, salt = '', tag = ''] = ARGON2ID.exec(hash) ?? []
  if (memory === undefined) return compareSync(password, hash)
  const expected = Buffer.from(tag, 'base64')
  const actual = argon2Sync('argon2id', {
    message: Buffer.from(password),
    nonce: Buffer.from(salt, 'base64'),
    memory: Number(memory),
    passes: Number(passes),
    parallelism: Number(parallelism),
    tagLength: expected.byteLength,
  })
  return timingSafeEqual(actual, expected)
}
