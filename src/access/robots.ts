import { hash, randomBytes } from 'node:crypto'
import type { Clock } from '../lib/clock.ts'
import { Turns } from '../lib/turns.ts'
import { OciError } from '../oci/error.ts'
import type { Identity } from '../oci/identity.ts'
import { parseRobot, type Robot, robotEntry } from './robot-record.ts'

/** Secret scanners find tokens by this prefix. */
const PREFIX = 'entrepot_'
const SECRET_BYTES = 32
/** Last uses are in one record, which limits this. */
const ROBOTS_MAX = 150
/** Last uses are written down at most this often, in milliseconds. */
const NOTE_EVERY_MS = 60_000

/** The place where robots are kept. */
interface RobotStore {
  readRobots(): Promise<readonly unknown[]>
  /** Durable once it resolves. Each robot is kept by itself: other processes add and remove theirs. */
  addRobot(entry: object): Promise<void>
  removeRobot(id: string): Promise<void>
  /** Last uses by id. Some may be lost. */
  readUses(): Promise<ReadonlyMap<string, number>>
  writeUses(uses: ReadonlyMap<string, number>): Promise<void>
}

/** A token to be created. */
export type NewRobot = Pick<Robot, 'name' | 'grants' | 'createdBy' | 'expiresAtMs'>

export interface RobotsParts {
  readonly store: RobotStore
  readonly clock: Pick<Clock, 'wallMs'>
  /** Called after a token was revoked: nobody may remember its identity. */
  readonly revoked: () => void
}

/** True if the text has the form of a robot token. */
export function isRobotToken(text: string): boolean {
  return text.startsWith(PREFIX)
}

/**
 * Tokens for programs, with rights of their own. Only their hashes are kept. A token is 32 random bytes, so
 * one pass of SHA-256 is as good as a slow hash.
 */
export class Robots {
  readonly #parts: RobotsParts
  readonly #turns = new Turns<'robots'>()
  #robots: ReadonlyMap<string, Robot> = new Map()
  #notedAtMs = 0

  constructor(parts: RobotsParts) {
    this.#parts = parts
  }

  /**
   * Reads the tokens, of which there are none until then. Other processes may share the store, so this is
   * repeated.
   */
  async refresh(): Promise<void> {
    await this.#turns.take('robots', async () => this.#adopt(await this.#read()))
  }

  list(): readonly Robot[] {
    return [...this.#robots.values()]
  }

  /** Creates a token and returns it. It is never shown again. */
  async create(wanted: NewRobot): Promise<{ readonly robot: Robot; readonly token: string }> {
    const token = `${PREFIX}${randomBytes(SECRET_BYTES).toString('base64url')}`
    const robot: Robot = {
      ...wanted,
      id: randomBytes(6).toString('hex'),
      sha256: hash('sha256', token),
      createdAtMs: this.#parts.clock.wallMs(),
      lastUsedAtMs: undefined,
    }
    await this.#change(async robots => {
      if (robots.length >= ROBOTS_MAX)
        throw new OciError('DENIED', `there are ${ROBOTS_MAX} tokens already: revoke some`)
      await this.#parts.store.addRobot(robotEntry(robot))
      return [...robots, robot]
    })
    return { robot, token }
  }

  /** Ends the token with this id, or all tokens of this robot; returns those that it ended. */
  async revoke(idOrName: string): Promise<readonly Robot[]> {
    const isMeant = ({ id, name }: Robot): boolean => id === idOrName || name === idOrName
    let ended: readonly Robot[] = []
    await this.#change(async robots => {
      ended = robots.filter(isMeant)
      for (const { id } of ended) await this.#parts.store.removeRobot(id)
      return robots.filter(robot => !isMeant(robot))
    })
    return ended
  }

  /** The identity of a token; `undefined` if it is unknown, revoked or expired. */
  find(token: string): { readonly robot: Robot; readonly identity: Identity } | undefined {
    const robot = this.#robots.get(hash('sha256', token))
    return robot === undefined ? undefined : this.#live(robot)
  }

  /** The identity of the token with this id, which was exchanged for another token. */
  findById(id: string): { readonly robot: Robot; readonly identity: Identity } | undefined {
    const robot = this.list().find(each => each.id === id)
    return robot === undefined ? undefined : this.#live(robot)
  }

  #live(robot: Robot): { readonly robot: Robot; readonly identity: Identity } | undefined {
    const nowMs = this.#parts.clock.wallMs()
    if (robot.expiresAtMs !== undefined && robot.expiresAtMs <= nowMs) return undefined
    this.#note(robot, nowMs)
    return { robot, identity: { name: `robot:${robot.name}`, groups: [], grants: robot.grants } }
  }

  /** Notes a use. Losing the latest ones in a crash is harmless. */
  #note(robot: Robot, nowMs: number): void {
    const robots = new Map(this.#robots)
    robots.set(robot.sha256, { ...robot, lastUsedAtMs: nowMs })
    this.#robots = robots
    if (nowMs - this.#notedAtMs < NOTE_EVERY_MS) return
    this.#notedAtMs = nowMs
    void this.#turns.take('robots', async () => await this.#writeUses()).catch(() => undefined)
  }

  async #writeUses(): Promise<void> {
    const uses = new Map(await this.#parts.store.readUses())
    for (const { id, lastUsedAtMs = 0 } of this.list())
      if (lastUsedAtMs > (uses.get(id) ?? 0)) uses.set(id, lastUsedAtMs)
    const known = new Set(this.list().map(({ id }) => id))
    for (const id of uses.keys()) if (!known.has(id)) uses.delete(id)
    await this.#parts.store.writeUses(uses)
  }

  /** Changes run one after another, and are in force once they are written. */
  async #change(next: (robots: readonly Robot[]) => Promise<readonly Robot[]>): Promise<void> {
    await this.#turns.take('robots', async () => this.#adopt(await next(await this.#read())))
  }

  async #read(): Promise<readonly Robot[]> {
    const { store } = this.#parts
    const [entries, uses] = [await store.readRobots(), await store.readUses()]
    return entries
      .map(parseRobot)
      .filter(robot => robot !== undefined)
      .map(robot => ({ ...robot, lastUsedAtMs: uses.get(robot.id) ?? robot.lastUsedAtMs }))
  }

  /** Puts robots into force. One that is gone was revoked, here or by another process. */
  #adopt(robots: readonly Robot[]): void {
    const known = new Map(robots.map(robot => [robot.sha256, this.#latest(robot)]))
    const isRevoked = [...this.#robots.keys()].some(sha256 => !known.has(sha256))
    this.#robots = known
    if (isRevoked) this.#parts.revoked()
  }

  /** The robot with the latest use that is known. */
  #latest(robot: Robot): Robot {
    const usedAtMs = this.#robots.get(robot.sha256)?.lastUsedAtMs
    return usedAtMs === undefined || usedAtMs < (robot.lastUsedAtMs ?? 0)
      ? robot
      : { ...robot, lastUsedAtMs: usedAtMs }
  }
}
