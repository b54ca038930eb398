import { isIdentifier, isPropertyAccessExpression } from 'typescript/unstable/ast'
import { type Module, walk } from './modules.ts'

/** Modules of Node that open no socket, make no file and start no process. Every other one is a door. */
const HARMLESS_MODULES: ReadonlySet<string> = new Set([
  'node:async_hooks',
  'node:buffer',
  'node:crypto',
  'node:diagnostics_channel',
  'node:events',
  'node:os',
  'node:path',
  'node:perf_hooks',
  'node:readline',
  'node:stream',
  'node:stream/promises',
  'node:timers',
  'node:timers/promises',
  'node:url',
  'node:util',
  'node:worker_threads',
  'node:zlib',
])

/** Names of otherwise dangerous modules that only look, or only judge. */
const HARMLESS_NAMES: ReadonlyMap<string, ReadonlySet<string>> = new Map([
  ['node:tty', new Set(['isatty'])],
  [
    'node:fs',
    new Set([
      'accessSync',
      'constants',
      'existsSync',
      'read',
      'readFileSync',
      'readSync',
      'realpathSync',
      'statSync',
      'watch',
    ]),
  ],
  [
    'node:fs/promises',
    new Set([
      'access',
      'constants',
      'lstat',
      'opendir',
      'readFile',
      'readdir',
      'readlink',
      'realpath',
      'stat',
      'statfs',
      'watch',
    ]),
  ],
  ['node:http', new Set(['STATUS_CODES', 'validateHeaderName', 'validateHeaderValue'])],
  ['node:net', new Set(['BlockList', 'SocketAddress', 'isIP', 'isIPv4', 'isIPv6'])],
  ['node:module', new Set(['enableCompileCache', 'findPackageJSON', 'stripTypeScriptTypes'])],
  ['node:tls', new Set(['getCACertificates', 'rootCertificates', 'checkServerIdentity'])],
  ['node:v8', new Set(['getHeapSpaceStatistics', 'getHeapStatistics', 'setFlagsFromString'])],
])

/** Packages that only compute. */
const HARMLESS_PACKAGES: ReadonlySet<string> = new Set([
  '@aws-sdk/s3-request-presigner',
  '@opentelemetry/api',
  '@opentelemetry/core',
  '@opentelemetry/resources',
  '@opentelemetry/sdk-trace',
  'bcryptjs',
  'lru-cache',
  'prom-client',
  'semver',
  'smol-toml',
  'tldts',
  'yaml',
  'yargs',
  'yargs/helpers',
  'zod',
])

/** What `lib/libraries.ts` hands out of other modules. The rest of it only computes. */
const HANDED_OUT: ReadonlyMap<string, string> = new Map([
  ['Agent', 'node:http'],
  ['createServer', 'node:http'],
  ['request', 'node:http'],
  ['undici', 'undici'],
])

/** Globals that open sockets, load code, or reach the modules above without an import. */
const FORBIDDEN_GLOBALS: ReadonlySet<string> = new Set([
  'EventSource',
  'WebSocket',
  'fetch',
  'getGlobalDispatcher',
  'require',
  'setGlobalDispatcher',
  'eval',
])

/** Properties by which a module can be had without an import. */
const FORBIDDEN_PROPERTIES: ReadonlySet<string> = new Set(['getBuiltinModule', 'binding', 'dlopen'])

/** Everything in a file by which it can open a socket, make a file or start a process: `module: name`. */
export function doorsOf(module: Module): readonly string[] {
  return [...new Set([...importedDoors(module), ...handedDoors(module), ...globalDoors(module)])].toSorted()
}

function importedDoors({ imports }: Module): readonly string[] {
  return imports
    .filter(({ specifier, isTypeOnly }) => !isTypeOnly && !specifier.startsWith('.'))
    .flatMap(({ specifier, values }) => {
      if (HARMLESS_MODULES.has(specifier) || HARMLESS_PACKAGES.has(specifier)) return []
      const harmless = HARMLESS_NAMES.get(specifier)
      return values
        .filter(name => harmless?.has(name) !== true && !isCommand(specifier, name))
        .map(name => `${specifier}: ${name}`)
    })
}

function handedDoors({ imports }: Module): readonly string[] {
  return imports
    .filter(({ specifier, isTypeOnly }) => !isTypeOnly && specifier.endsWith('lib/libraries.ts'))
    .flatMap(({ values }) =>
      values.flatMap(name => {
        const from = name === '*' ? 'node:http' : HANDED_OUT.get(name)
        return from === undefined ? [] : [`${from}: ${name}`]
      }),
    )
}

/** A command of the S3 SDK is a value; only a client can send it. */
function isCommand(specifier: string, name: string): boolean {
  return specifier === '@aws-sdk/client-s3' && name.endsWith('Command')
}

function globalDoors({ tree }: Module): readonly string[] {
  const found: string[] = []
  walk(tree, node => {
    if (isPropertyAccessExpression(node) && isIdentifier(node.name)) {
      if (FORBIDDEN_PROPERTIES.has(node.name.text)) found.push(`global: ${node.name.text}`)
      if (node.expression.getText(tree) === 'globalThis') found.push(`global: ${node.name.text}`)
    } else if (isIdentifier(node) && FORBIDDEN_GLOBALS.has(node.text) && isFree(node)) {
      found.push(`global: ${node.text}`)
    }
  })
  return found
}

/** False for the name of a property, a method or a member of a type, which is no global. */
function isFree(node: { readonly parent: unknown }): boolean {
  const { name, propertyName } = node.parent as { readonly name?: unknown; readonly propertyName?: unknown }
  return name !== node && propertyName !== node
}
