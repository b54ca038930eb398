import { ContentMaker, type Item, type Kind } from './content.ts'
import type { Options } from './options.ts'
import { type StartedRegistry, startRegistry } from './registry.ts'
import type { Results } from './results.ts'
import type { Room } from './room.ts'
import { type Server, startServers, warm } from './servers.ts'
import type { TablePlan } from './table.ts'

/** Something that is measured: it adds to the results under its name, and has a table of them. */
export interface Case extends TablePlan {
  readonly run: (bench: Bench, results: Results) => Promise<void>
}

/** What all cases share: an origin with content, and the servers before it, which run from the first need on. */
export class Bench {
  readonly room: Room
  readonly options: Options
  readonly origin: StartedRegistry
  readonly maker: ContentMaker
  readonly #say: (text: string) => void
  readonly #warmed = new Map<Kind, Promise<readonly Item[]>>()
  #servers: Promise<readonly Server[]> | undefined

  private constructor(room: Room, options: Options, origin: StartedRegistry, say: (text: string) => void) {
    this.room = room
    this.options = options
    this.origin = origin
    this.#say = say
    this.maker = new ContentMaker(room, origin.address, options.largeBytes)
  }

  static async open(room: Room, options: Options, say: (text: string) => void): Promise<Bench> {
    return new Bench(room, options, await startRegistry(room, 'origin'), say)
  }

  /** The servers that are compared. */
  async servers(): Promise<readonly Server[]> {
    this.#servers ??= startServers(this.room, this.origin.address, this.maker.root)
    return await this.#servers
  }

  /** Content that every server has, and has answered rightly. */
  async warmed(kind: Kind): Promise<readonly Item[]> {
    const warmed = this.#warmed.get(kind) ?? this.#warm(kind)
    this.#warmed.set(kind, warmed)
    return await warmed
  }

  /** Tells whoever waits what is going on. */
  progress(text: string): void {
    this.#say(text)
  }

  async #warm(kind: Kind): Promise<readonly Item[]> {
    const items = await this.maker.make(kind)
    for (const server of await this.servers()) {
      this.progress(`${server.name}: checking ${kind}`)
      await warm(server, items)
    }
    return items
  }
}
