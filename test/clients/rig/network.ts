import { Child } from './child.ts'
import { DOCKER_MIRROR_NAME, type World } from './world.ts'

/**
 * A network of its own, without a way out, in which {@link DOCKER_MIRROR_NAME} has its address. It lives as
 * long as one process in it, which this holds.
 */
export class Network implements AsyncDisposable {
  readonly #world: World
  readonly #keeper: Child

  private constructor(world: World, keeper: Child) {
    this.#world = world
    this.#keeper = keeper
  }

  static async open(world: World): Promise<Network> {
    const address = world.addresses.get(DOCKER_MIRROR_NAME)
    const setup = `busybox ip link set lo up; busybox ip address add ${address}/32 dev lo; echo ready; exec sleep infinity`
    const keeper = new Child('the network', world.room.inside(['unshare', '--net', 'sh', '-ec', setup]))
    await keeper.ready(async () => await Promise.resolve(keeper.lines().includes('ready')))
    return new Network(world, keeper)
  }

  /** The command line that runs `argv` in this network and in the room of the world. */
  inside(argv: readonly string[]): string[] {
    return this.#world.room.inside(['nsenter', `--net=/proc/${this.#keeper.pid}/ns/net`, '--', ...argv])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#keeper.stop()
  }
}
