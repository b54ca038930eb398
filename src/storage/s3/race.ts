import { randomUUID } from 'node:crypto'
import { DeleteObjectCommand } from '@aws-sdk/client-s3'
import { StoreUnavailableError } from '../../oci/error.ts'
import type { CreationScope } from '../store.ts'
import type { S3Connection } from './connection.ts'
import { S3Failure } from './failure.ts'
import { createObject, readSmallObject, writeSmallObject } from './records.ts'

/** Keys of races, which are removed at once. */
const RACE_PREFIX = 'entrepot-race-'
const WRITERS = 8
const RACES = 3
/** Longest time of all races together, in milliseconds. */
const RACES_MS = 20_000

/** Result of the races for a key, for a person. */
export type ConditionalPut = 'atomic' | 'racy' | 'ignored' | 'unsupported' | 'untried'

/**
 * Finds out by a few races whether `If-None-Match: *` makes exactly one of several concurrent PUTs create an
 * object. One request cannot tell: a server may check for the object before it stores it, and then lets two
 * writers in at once. Throws if S3 does not answer.
 */
export async function raceForKeys(connection: S3Connection): Promise<ConditionalPut> {
  const signal = AbortSignal.timeout(RACES_MS)
  const keys = Array.from({ length: RACES + 1 }, () => connection.key(`${RACE_PREFIX}${randomUUID()}`))
  const [first = '', ...raced] = keys
  // Each start would leave its keys behind.
  if (!(await remove(connection, first))) return 'untried'
  try {
    const alone = await tryAlone(connection, first, signal)
    if (alone !== 'atomic') return alone
    // One after another: the first opens the connections that the others share.
    for (const key of raced) if (!(await hasOneWinner(connection, key, signal))) return 'racy'
    return 'atomic'
  } catch (error) {
    if (error instanceof S3Failure && !error.isTrouble) return 'unsupported'
    if (!signal.aborted) throw error
    throw new StoreUnavailableError(`S3 took longer than ${RACES_MS} ms for some races`)
  } finally {
    await Promise.all(keys.map(async key => await remove(connection, key)))
  }
}

/** The words for a store where creation is not atomic. */
export function scopeOf(result: ConditionalPut, { address, bucket }: S3Connection): CreationScope {
  if (result === 'atomic') return { kind: 'store' }
  const where = `${address.endpoint ?? `Amazon S3 in ${address.region}`}, with the bucket ${bucket},`
  return { kind: 'process', why: `${where} ${LACKS[result]}` }
}

const LACKS = {
  racy: 'lets several writers create one object at the same moment',
  ignored: 'ignores If-None-Match and overwrites',
  unsupported: 'does not support If-None-Match',
  untried: 'cannot be tried for If-None-Match without the right s3:DeleteObject',
} as const satisfies Record<Exclude<ConditionalPut, 'atomic'>, string>

async function tryAlone(connection: S3Connection, key: string, signal: AbortSignal): Promise<ConditionalPut> {
  const bytes = Buffer.from('first')
  await writeSmallObject(connection, key, bytes, { signal })
  try {
    const { kind } = await createObject(connection, key, bytes, signal)
    return kind === 'created' ? 'ignored' : 'atomic'
  } catch (error) {
    if (error instanceof S3Failure && error.status === 501) return 'unsupported'
    throw error
  }
}

/** True if one of several writers creates the object, and everybody sees its bytes and no others. */
async function hasOneWinner(connection: S3Connection, key: string, signal: AbortSignal): Promise<boolean> {
  const all = Array.from({ length: WRITERS }, (_, writer) => Buffer.from(`writer ${writer}`))
  const results = await Promise.all(
    all.map(async bytes => ({ bytes, creation: await createObject(connection, key, bytes, signal) })),
  )
  const winners = results.filter(({ creation }) => creation.kind === 'created')
  const found = await readSmallObject(connection, key, signal)
  const seen = results.flatMap(({ creation }) => (creation.kind === 'exists' ? [creation.bytes] : []))
  const [winner] = winners
  if (winner === undefined || winners.length > 1 || found === undefined) return false
  return [found.bytes, ...seen].every(bytes => winner.bytes.equals(bytes))
}

/**
 * Removes an object, which need not exist; `false` if that is forbidden. What cannot be removed now stays: it
 * is a few bytes under a name that nothing looks for.
 */
async function remove(connection: S3Connection, key: string): Promise<boolean> {
  try {
    await connection.tidy('DeleteObject', async (client, options) =>
      client.send(new DeleteObjectCommand({ Bucket: connection.bucket, Key: key }), options),
    )
  } catch (error) {
    if (!(error instanceof StoreUnavailableError)) throw error
    return !(error instanceof S3Failure && error.status === 403)
  }
  return true
}
