import type { World } from '../world.ts'

/**
 * Credentials that come with one pull, where the client takes them so. Other clients read them from Docker's
 * file in their home.
 */
export interface PullLogin {
  readonly username: string
  readonly password: string
}

/**
 * A real client, set up so that it asks the mirror first and the upstream itself when the mirror fails it.
 */
export interface Puller extends AsyncDisposable {
  /** Pulls an image that it does not have, all of it; throws what the client printed when the pull fails. */
  pull(image: string, login?: PullLogin): Promise<void>
  /** Pulls the children of every platform too, if this client can. */
  pullEveryPlatform?(image: string): Promise<void>
  /** Removes every byte of an image, so that the next pull is a whole one. */
  forget(image: string): Promise<void>
  /** Runs the image's own command in a container and returns what that printed. */
  run?(image: string): Promise<string>
}

/**
 * A kind of client: how to start one against the mirror at `mirror` (`host:port`), which need not be up yet,
 * or without a mirror.
 */
export interface PullerKind {
  readonly name: string
  /** The executables that it needs; a machine without one of them cannot run it. */
  readonly executables: readonly string[]
  /** The user agent of its own requests begins so. */
  readonly agent: string
  /** A client of Docker Hub's mirrors only names other registries by a path on the mirror's own address. */
  readonly mirrorsOnlyDockerHub?: true
  readonly start: (world: World, mirror?: string) => Promise<Puller>
}

/** The name of a client's own directory: one with a mirror and one without may run side by side. */
export function labelOf(name: string, mirror: string | undefined): string {
  return mirror === undefined ? `${name}-direct` : name
}
