import type { House, Layer } from './layers.ts'

function layer(folders: readonly string[], contracts: readonly string[] = []): Layer {
  return { folders, contracts }
}

const STORE = 'storage/store.ts'

/** What each folder of src/ may import besides itself. A missing edge is a forbidden one. */
const LAYERS: ReadonlyMap<string, Layer> = new Map([
  ['lib', layer([])],
  ['oci', layer(['lib'])],
  ['config', layer(['oci', 'lib'])],
  ['observe', layer(['oci', 'lib'])],
  ['storage', layer(['oci', 'observe', 'lib'])],
  ['upstream', layer(['oci', 'observe', 'lib'])],
  ['content', layer(['oci', 'observe', 'lib'], [STORE])],
  ['space', layer(['content', 'oci', 'observe', 'lib'], [STORE])],
  ['mirror', layer(['content', 'oci', 'observe', 'lib'], [STORE, 'upstream/registry.ts'])],
  ['hosted', layer(['content', 'oci', 'observe', 'lib'], [STORE])],
  ['access', layer(['oci', 'observe', 'lib'], ['config/config.ts'])],
  ['http', layer(['content', 'access', 'oci', 'observe', 'lib'])],
  ['peers', layer(['content', 'mirror', 'http', 'oci', 'observe', 'lib'], ['upstream/registry.ts'])],
  ['admin', layer(['content', 'space', 'mirror', 'hosted', 'access', 'http', 'oci', 'observe', 'lib'])],
  ['migration', layer(['oci', 'lib'])],
  ['admission', layer(['http', 'oci', 'observe', 'lib'])],
  ['cli', layer(['config', 'migration', 'admission', 'oci', 'observe', 'lib'], ['admin/contract.ts'])],
])

/** Which rooms of its own folder each room may import; `.` are the files that stand beside the rooms. */
const ROOMS: House['rooms'] = new Map([
  [
    'lib',
    new Map([
      ['.', []],
      ['memory', []],
      ['words', []],
    ]),
  ],
  [
    'oci',
    new Map([
      ['.', ['rules']],
      ['rules', ['.']],
    ]),
  ],
  [
    'storage',
    new Map([
      ['.', []],
      ['copies', ['.', 'filesystem']],
      ['filesystem', ['.']],
      ['s3', ['.', 'filesystem']],
    ]),
  ],
  [
    'upstream',
    new Map([
      ['.', ['auth', 'dial', 'manners']],
      ['auth', ['.', 'dial', 'manners']],
      ['dial', ['.']],
      ['manners', ['.', 'dial']],
    ]),
  ],
  [
    'content',
    new Map([
      ['.', []],
      ['index', ['.']],
      ['jobs', ['.']],
    ]),
  ],
  [
    'mirror',
    new Map([
      ['.', ['fill']],
      ['fill', ['.']],
    ]),
  ],
  [
    'observe',
    new Map([
      ['.', ['series', 'tracing']],
      ['notifications', ['.']],
      ['series', []],
      ['tracing', ['.']],
    ]),
  ],
  [
    'http',
    new Map([
      ['.', ['remembered', 'resources', 'setup', 'tls']],
      ['remembered', ['.']],
      ['resources', ['.']],
      ['setup', ['.']],
      ['threads', ['.', 'tls']],
      ['tls', []],
    ]),
  ],
  [
    'config',
    new Map([
      ['.', ['file', 'peers', 'tls']],
      ['file', ['.']],
      ['peers', ['.']],
      ['tls', ['.']],
    ]),
  ],
  [
    'admin',
    new Map([
      ['.', ['page']],
      ['page', ['.']],
    ]),
  ],
  [
    'cli',
    new Map([
      ['.', ['admin', 'clients', 'doctor', 'kubernetes']],
      ['admin', ['.']],
      ['clients', []],
      ['doctor', ['.', 'clients']],
      ['kubernetes', ['.', 'clients', 'doctor']],
    ]),
  ],
])

export const HOUSE: House = {
  layers: LAYERS,
  rooms: ROOMS,
  roots: new Set(['daemon', 'main.ts']),
  drivers: /^storage\/(?:copies|filesystem|s3)\//,
  driversOf: 'daemon',
}

/** Circles of imports that are allowed, as the check reports them. */
export const KNOWN_CYCLES: ReadonlySet<string> = new Set([])

/** Names that several files of src/ may export. */
export const KNOWN_SHARED_NAMES: ReadonlySet<string> = new Set([])

/** Variables of modules that may change, each with the reason. */
export const KNOWN_STATE: ReadonlyMap<string, string> = new Map([
  ['observe/output.ts: standardOutput', 'a process has one standard output'],
  ['observe/tracing/span.ts: current', 'work has one span, wherever it is asked for'],
  ['content/index/catalogue-thread.ts: host', 'the entry of a thread, which has one index'],
  ['storage/filesystem/step-writer-thread.ts: keeper', 'the entry of a thread, which has one store'],
])

interface Door {
  readonly modules: readonly string[]
  readonly why: string
}

/**
 * The files that may open a socket, make or remove a file, or start a process, with the modules by which they
 * do it. The daemon itself has the dialer for sockets that go out and the store for files. The rest are
 * exceptions.
 */
export const DOORS: ReadonlyMap<string, Door> = new Map([
  // Sockets that go out.
  [
    'upstream/dial/dialer.ts',
    { modules: ['node:net'], why: 'the dialer: it dials the address that it has judged' },
  ],
  [
    'upstream/dial/handshake.ts',
    { modules: ['node:tls'], why: 'the dialer: TLS on a socket that it has opened' },
  ],
  [
    'upstream/dial/tunnel.ts',
    { modules: ['node:http'], why: 'the dialer: CONNECT, on a socket to a proxy that it has opened' },
  ],
  [
    'upstream/dial/public-resolver.ts',
    { modules: ['node:dns/promises'], why: 'the dialer: asks the name servers for public names' },
  ],
  [
    'upstream/dial/resolve.ts',
    { modules: ['node:dns/promises'], why: 'the dialer: asks the machine for names of configured upstreams' },
  ],
  [
    'upstream/transport.ts',
    { modules: ['undici'], why: 'HTTP, through an agent whose connector is the dialer' },
  ],
  [
    'storage/s3/connection.ts',
    { modules: ['@aws-sdk/client-s3'], why: 'the client of the one configured bucket' },
  ],
  [
    'peers/wire.ts',
    { modules: ['node:https'], why: 'asks other replicas at the addresses that are configured' },
  ],
  // Sockets that come in.
  ['http/server.ts', { modules: ['node:http', 'node:https'], why: 'the listener' }],
  [
    'config/tls/authority.ts',
    { modules: ['asn1js', 'pkijs'], why: 'writes the structure of certificates; opens nothing' },
  ],
  ['config/tls/certificate-files.ts', { modules: ['node:tls'], why: 'checks a certificate; opens nothing' }],
  [
    'config/tls/self-signed.ts',
    { modules: ['node:fs/promises'], why: 'writes the CA and the certificate that it makes' },
  ],
  ['http/tls/peer.ts', { modules: ['node:tls'], why: 'recognizes encrypted connections' }],
  [
    'http/threads/forward.ts',
    { modules: ['node:http'], why: 'asks the first thread, over a private socket of this process' },
  ],
  ['daemon/free-port.ts', { modules: ['node:net'], why: 'finds the port that several threads then share' }],
  [
    'http/file-sender.ts',
    {
      modules: ['node:ffi', 'node:fs', 'node:net'],
      why: 'sends stored files; tests itself on a connection to itself',
    },
  ],
  // Files of the store.
  [
    'storage/copies/copy-directory.ts',
    { modules: ['node:fs/promises'], why: 'names and removes local copies of a bucket' },
  ],
  ['storage/filesystem/create-file.ts', { modules: ['node:fs/promises'], why: 'creates records once' }],
  [
    'storage/filesystem/directories.ts',
    { modules: ['node:fs/promises'], why: 'makes and syncs directories' },
  ],
  ['storage/filesystem/quarantine.ts', { modules: ['node:fs/promises'], why: 'puts damaged objects aside' }],
  [
    'storage/filesystem/regular-file.ts',
    { modules: ['node:fs/promises'], why: 'opens stored files to read them' },
  ],
  [
    'storage/filesystem/spool-directory.ts',
    { modules: ['node:fs/promises'], why: 'makes and keeps spool files' },
  ],
  ['storage/filesystem/spool-file.ts', { modules: ['node:fs/promises'], why: 'removes a spool file' }],
  [
    'storage/filesystem/spool-sweep.ts',
    { modules: ['node:fs/promises'], why: 'removes leftovers at the start' },
  ],
  [
    'storage/filesystem/step-writer-thread.ts',
    { modules: ['node:fs'], why: 'writes, syncs and places the files of a push' },
  ],
  ['storage/filesystem/store.ts', { modules: ['node:fs/promises'], why: 'adopts and removes objects' }],
  ['storage/s3/spool.ts', { modules: ['node:fs/promises'], why: 'removes a spool file after its upload' }],
  // The index, which is derived and may be deleted.
  [
    'content/index/catalogue.ts',
    { modules: ['node:sqlite', 'node:fs'], why: 'the database of the index, and its mode' },
  ],
  ['content/index/catalogue-thread.ts', { modules: ['node:fs'], why: 'removes an index that is damaged' }],
  // The outbox of notifications.
  [
    'observe/notifications/outbox.ts',
    { modules: ['node:sqlite', 'node:fs'], why: 'the database of the outbox, and its mode' },
  ],
  [
    'observe/notifications/outbox-thread.ts',
    { modules: ['node:fs'], why: 'puts an outbox aside that is damaged' },
  ],
  // Logs.
  [
    'lib/libraries.ts',
    { modules: ['node:module', 'global'], why: 'loads libraries late; opens nothing itself' },
  ],
  [
    'observe/tracing/otlp.ts',
    {
      modules: ['@opentelemetry/exporter-trace-otlp-http'],
      why: 'sends spans to the collector that the operator named',
    },
  ],
  ['observe/log.ts', { modules: ['pino'], why: 'log lines, to standard error' }],
  ['observe/file-output.ts', { modules: ['node:fs/promises'], why: 'the audit log' }],
  ['observe/output.ts', { modules: ['pino'], why: 'standard output and standard error' }],
  // Processes.
  ['upstream/auth/docker-config.ts', { modules: ['node:child_process'], why: 'credential helpers' }],
  // Commands that an operator runs.
  [
    'cli/doctor/kubernetes.ts',
    { modules: ['node:dns/promises'], why: 'finds all mirrors behind the name of a headless Service' },
  ],
  ['cli/doctor/engines.ts', { modules: ['node:http2', 'node:net'], why: 'asks engines of this machine' }],
  [
    'cli/stale-socket.ts',
    { modules: ['node:fs/promises', 'node:net'], why: 'removes a socket nobody answers at' },
  ],
  ['cli/healthcheck.ts', { modules: ['node:http', 'node:https'], why: 'asks the daemon whether it lives' }],
  ['cli/admin/connection.ts', { modules: ['node:http'], why: 'asks the admin listener' }],
  [
    'cli/doctor/ask.ts',
    { modules: ['node:http', 'node:https'], why: 'asks the mirror what a client would see' },
  ],
  [
    'migration/directory-tree.ts',
    { modules: ['node:fs/promises'], why: 'opens the files of another registry to read them' },
  ],
  [
    'migration/registry-target.ts',
    { modules: ['undici'], why: 'pushes to the registry that the operator names' },
  ],
  ['cli/clients/host-files.ts', { modules: ['node:fs/promises'], why: 'writes configuration of clients' }],
  ['cli/clients/rooted-path.ts', { modules: ['node:fs/promises'], why: 'makes directories for it' }],
])
