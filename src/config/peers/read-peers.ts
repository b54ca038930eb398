import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { splitHostAndPort } from '../host.ts'
import type { Given, SettingsReader } from '../reader.ts'
import { Secret } from '../secret.ts'
import type { PeerHost, PeersConfig } from './peers-config.ts'

const MEMBERS_MAX = 10_000
const SECRET_LENGTH_MIN = 16
const CLUSTER_DEFAULT = 'entrepot'

/** Reads the settings of replicas; `undefined` if there are none. */
export async function readPeers(reader: SettingsReader, cwd: string): Promise<PeersConfig | undefined> {
  const given = reader.find('peer-listen')
  const cluster = reader.parse(reader.find('peer-cluster'), parseCluster) ?? CLUSTER_DEFAULT
  const members = readMembers(reader)
  const secret = await readSecret(reader, cwd)
  if (given === undefined) {
    const alone = reader.find('peers', 'peers-dns', 'peer-secret-file', 'peer-cluster')
    if (alone !== undefined) reader.refuse(alone, 'is given without --peer-listen', 'such as 0.0.0.0:8082')
    return undefined
  }
  const listen = reader.parse(given, parsePeerHost)
  if (reader.find('peers', 'peers-dns') === undefined)
    reader.refuse(given, 'needs the addresses of the replicas', 'give --peers or --peers-dns too')
  if (reader.find('peer-secret-file') === undefined)
    reader.refuse(
      given,
      'is reachable from other machines, and anyone there could read every cached image',
      'give --peer-secret-file too',
    )
  if (listen === undefined || members === undefined || secret === undefined) return undefined
  return { listen: { kind: 'tcp', ...listen }, members, ...secret, cluster }
}

function readMembers(reader: SettingsReader): PeersConfig['members'] | undefined {
  const [list, dns] = [reader.find('peers'), reader.find('peers-dns')]
  if (list !== undefined && dns !== undefined) {
    reader.refuse(dns, 'contradicts --peers', 'keep one of them')
    return undefined
  }
  const name = reader.parse(dns, parseMember)
  if (name !== undefined) return { kind: 'dns', name }
  const addresses = reader.parseList(list, parseMember)
  if (list === undefined || addresses === undefined) return undefined
  if (addresses.length > MEMBERS_MAX) {
    reader.refuse(list, `names ${addresses.length} replicas`, `at most ${MEMBERS_MAX}`)
    return undefined
  }
  return { kind: 'list', addresses }
}

async function readSecret(
  reader: SettingsReader,
  cwd: string,
): Promise<Pick<PeersConfig, 'secret' | 'secretFile'> | undefined> {
  const given = reader.find('peer-secret-file')
  const name = reader.parse(given, text => (text.includes('\0') ? undefined : text))
  if (given === undefined || name === undefined) return undefined
  const secretFile = resolve(cwd, name)
  const text = await readLine(reader, given, secretFile)
  if (text === undefined) return undefined
  if (text.length >= SECRET_LENGTH_MIN && /^[\x21-\x7e]+$/.test(text))
    return { secret: new Secret(text), secretFile }
  const hint = `one line of at least ${SECRET_LENGTH_MIN} characters, without spaces`
  reader.refuse(given, 'names a file without a secret', hint)
  return undefined
}

async function readLine(reader: SettingsReader, given: Given, file: string): Promise<string | undefined> {
  try {
    return (await readFile(file, 'utf8')).trim()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    reader.refuse(given, `names a file that cannot be read: ${code ?? 'unknown error'}`, undefined)
    return undefined
  }
}

/** An address to listen at, where port 0 is any free port. */
function parsePeerHost(text: string): PeerHost | undefined {
  const split = splitHostAndPort(text)
  if (split?.port === undefined) return undefined
  const host = split.host.startsWith('[') ? split.host.slice(1, -1) : split.host
  return { host, port: split.port }
}

function parseMember(text: string): PeerHost | undefined {
  const address = parsePeerHost(text)
  return address?.port === 0 ? undefined : address
}

function parseCluster(text: string): string | undefined {
  return /^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$/.test(text) ? text : undefined
}
