import { runOk } from '../child.ts'
import type { World } from '../world.ts'

/** Where clients push, and as whom. */
export interface PushSite {
  readonly world: World
  readonly transport: 'http' | 'https'
  /** `host:port` of the mirror. */
  readonly address: string
  readonly username: string
  readonly password: string
  /** An OCI layout with an index of two platforms. */
  readonly layout: string
  /** The same as a tar. */
  readonly archive: string
  readonly tag: string
  /** Digest of that index. */
  readonly digest: string
}

/** A real client with its login. Names are `<host:port>/<registry>/<repository>:<tag>`. */
export interface PushClient extends AsyncDisposable {
  /** Pushes; throws what the client printed. Returns the digest of it, if that is known before. */
  push(name: string): Promise<string | undefined>
  /** Forgets what it pushed, and pulls it from the mirror. */
  pullAgain(name: string): Promise<void>
}

export interface PusherKind {
  readonly name: string
  /** What it pushes, in words. */
  readonly what: string
  readonly executables: readonly string[]
  readonly start: (site: PushSite) => Promise<PushClient>
}

/** A program in the room of the site, with a home of its own. It trusts the CA of the world. */
export async function programOf(
  { world, transport }: PushSite,
  name: string,
  more: Readonly<Record<string, string>> = {},
): Promise<(...argv: readonly string[]) => Promise<string>> {
  const home = await world.room.makeDirectory(`push-${name}-${transport}`)
  const env = { HOME: home, SSL_CERT_FILE: world.certificates.caFile, ...more }
  return async (...argv) => await runOk(world.room.inside(argv), { env })
}
