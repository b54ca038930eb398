import { isIP } from 'node:net'
import { join, resolve } from 'node:path'
import type { ListenAddress, StoreConfig, TlsConfig } from '../config.ts'
import { splitHostAndPort } from '../host.ts'
import { parseListen } from '../listen.ts'
import { ConfigError } from '../problem.ts'
import { parseBoolean, type SettingsReader } from '../reader.ts'
import type { Flag } from '../settings.ts'
import { loadCertificate } from './certificate-files.ts'

/** Surroundings of the TLS settings. */
export interface TlsSurroundings {
  readonly cwd: string
  readonly listen: ListenAddress
  readonly store: StoreConfig
  readonly isReadOnly: boolean
}

/** Flags that have no effect without a certificate. */
const DEPENDENT = ['listen-tls', 'tls-client-ca', 'tls-client-auth'] as const satisfies readonly Flag[]

/**
 * Reads the settings of TLS, and checks the files that they name. Returns `undefined` if clients use plain
 * HTTP.
 */
export async function readTls(
  reader: SettingsReader,
  surroundings: TlsSurroundings,
): Promise<TlsConfig | undefined> {
  const certificate = readCertificate(reader, surroundings)
  const listen = reader.parseList(reader.find('listen-tls'), text => parseTcp(text, surroundings.cwd)) ?? []
  const clients = readClients(reader, surroundings.cwd)
  if (certificate === undefined) {
    refuseDependent(reader)
    return undefined
  }
  if (listen.length === 0 && surroundings.listen.kind === 'unix')
    reader.problems.push({
      origin: { kind: 'command-line' },
      path: 'listen',
      message: 'is a unix socket, which needs no TLS',
      hint: 'name the TLS listener with --listen-tls',
    })
  if (certificate.kind === 'files') await checkFiles(reader, certificate, clients?.caFile)
  return { listen, certificate, clients }
}

function readCertificate(
  reader: SettingsReader,
  { cwd, store, isReadOnly }: TlsSurroundings,
): TlsConfig['certificate'] | undefined {
  const [cert, key] = [reader.find('tls-cert'), reader.find('tls-key')]
  const selfSigned = reader.find('tls-self-signed')
  const namesGiven = reader.find('tls-names')
  const names = reader.parseList(namesGiven, parseName) ?? []
  const isSelfSigned = reader.parse(selfSigned, parseBoolean) ?? false
  if (namesGiven !== undefined && !isSelfSigned)
    reader.refuse(namesGiven, 'has no effect without --tls-self-signed', undefined)
  const alone = cert ?? key
  if (selfSigned !== undefined && isSelfSigned) {
    if (alone !== undefined) reader.refuse(alone, 'contradicts --tls-self-signed', 'keep one of them')
    if (store.kind === 's3' || isReadOnly) {
      const place = store.kind === 's3' ? 'a bucket' : 'a read-only cache'
      reader.refuse(selfSigned, `cannot keep its keys in ${place}`, 'give --tls-cert and --tls-key')
      return undefined
    }
    return { kind: 'self-signed', directory: join(store.root, 'state', 'tls'), names }
  }
  if (alone === undefined) return undefined
  if (cert === undefined || key === undefined) {
    reader.refuse(
      alone,
      `is given without --tls-${cert === undefined ? 'cert' : 'key'}`,
      'they belong together',
    )
    return undefined
  }
  const [certFile, keyFile] = [parsePath(reader, 'tls-cert', cwd), parsePath(reader, 'tls-key', cwd)]
  return certFile === undefined || keyFile === undefined ? undefined : { kind: 'files', certFile, keyFile }
}

function readClients(reader: SettingsReader, cwd: string): TlsConfig['clients'] {
  const caFile = parsePath(reader, 'tls-client-ca', cwd)
  const given = reader.find('tls-client-auth')
  const auth = reader.parse(given, text => AUTH.find(word => word === text))
  if (given !== undefined && auth === 'required' && reader.find('tls-client-ca') === undefined)
    reader.refuse(given, 'is given without --tls-client-ca', 'they belong together')
  return caFile === undefined ? undefined : { caFile, isRequired: auth === 'required' }
}

const AUTH = ['optional', 'required'] as const

function parsePath(reader: SettingsReader, flag: Flag, cwd: string): string | undefined {
  const path = reader.parse(reader.find(flag), text => (text.includes('\0') ? undefined : text))
  return path === undefined ? undefined : resolve(cwd, path)
}

function refuseDependent(reader: SettingsReader): void {
  if (['tls-cert', 'tls-key', 'tls-self-signed'].some(flag => isOn(reader, flag as Flag))) return
  for (const flag of DEPENDENT) {
    const given = reader.find(flag)
    if (given !== undefined)
      reader.refuse(
        given,
        'has no effect without a certificate',
        'give --tls-cert and --tls-key, or --tls-self-signed',
      )
  }
}

/** True if a setting is given and is not false. What is wrong with it is reported elsewhere. */
function isOn(reader: SettingsReader, flag: Flag): boolean {
  const given = reader.find(flag)
  return given !== undefined && parseBoolean(given.text) !== false
}

async function checkFiles(
  reader: SettingsReader,
  { certFile, keyFile }: Extract<TlsConfig['certificate'], { readonly kind: 'files' }>,
  clientCaFile: string | undefined,
): Promise<void> {
  try {
    await loadCertificate({ certFile, keyFile, clientCaFile }, Date.now())
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    reader.problems.push(...error.problems)
  }
}

function parseTcp(text: string, cwd: string): ListenAddress | undefined {
  const address = parseListen(text, cwd)
  return address?.kind === 'tcp' ? address : undefined
}

function parseName(text: string): string | undefined {
  const name = text.replace(/^\[(.*)\]$/, '$1')
  if (isIP(name) !== 0) return name
  const split = splitHostAndPort(name)
  return split?.port === undefined && /^(?:\*\.)?[A-Za-z0-9.-]{1,253}$/.test(name)
    ? name.toLowerCase()
    : undefined
}
