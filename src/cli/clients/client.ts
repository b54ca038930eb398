import { type Namespace, PUBLIC_REGISTRIES } from '../../oci/namespace.ts'

/** Address of a mirror for clients: scheme, host and port, without a path. */
export interface MirrorUrl {
  readonly scheme: 'http' | 'https'
  /** `host` or `host:port`. */
  readonly authority: string
  /** Scheme and authority, without a slash behind them. */
  readonly url: string
}

/** A request to point a client at a mirror. */
export interface Wish {
  readonly mirror: MirrorUrl
  /** Registries to pull through the mirror; `all` means as many as the client can express. */
  readonly registries: readonly Namespace[] | 'all'
  /** CA certificate of the mirror, if the system does not trust it. */
  readonly caFile: string | undefined
  /** The text of that file, for clients that need a copy; `undefined` if it is not on this machine. */
  readonly caText?: string | undefined
  /** What the client sends to the mirror; `undefined` if it stays anonymous. */
  readonly login?: MirrorLogin | undefined
  /** Certificate that the client presents to the mirror. */
  readonly certificate?: { readonly certFile: string; readonly keyFile: string } | undefined
}

/** A user and a password, or a robot's token as the password. */
export interface MirrorLogin {
  readonly username: string
  readonly password: string
}

/** The login in the form of Basic authentication, in base64. */
export function basicText({ username, password }: MirrorLogin): string {
  return Buffer.from(`${username}:${password}`).toString('base64')
}

/** Files of a client's machine. Paths are absolute there, or relative to the working directory. */
export interface HostFiles {
  /** The text of a file; `undefined` if it does not exist. */
  read(path: string): Promise<string | undefined>
  /** Sorted names in a directory; empty if it does not exist. */
  list(path: string): Promise<readonly string[]>
}

/** One file before and after the change. */
export type PlannedFile = {
  readonly path: string
  /** Its text now; `undefined` if it does not exist. */
  readonly before: string | undefined
  /** Its text afterwards; the same as before if it needs no change. */
  readonly after: string
  /** Why the file is not written: it contradicts the request. */
  readonly refusal?: string
  /** True if the file holds a password: only its owner may read it. */
  readonly isSecret?: boolean
}

/** The files to change for one client. */
export interface Plan {
  readonly files: readonly PlannedFile[]
  /** Further steps and facts, each a whole sentence. */
  readonly notes: readonly string[]
}

/** Plans the files of one kind of client. Reads files, and writes none. */
export type PlanClient = (wish: Wish, files: HostFiles) => Promise<Plan>

/** The registries of a wish as a list. */
export function namedRegistries({ registries }: Wish): readonly Namespace[] {
  return registries === 'all' ? PUBLIC_REGISTRIES : registries
}
