import { createHash, createPrivateKey, randomBytes, type webcrypto, X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { BitString, Integer, OctetString, Utf8String } from 'asn1js'
import {
  AttributeTypeAndValue,
  AuthorityKeyIdentifier,
  BasicConstraints,
  Certificate,
  Extension,
  ExtKeyUsage,
  GeneralName,
  GeneralNames,
} from 'pkijs'
import { addressBytes } from '../../lib/ip-address.ts'

/** Keys and signatures are Node's own (WebCrypto); pkijs only writes the structure of certificates. */
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256' } as const

const DAY_MS = 24 * 3_600_000
const AUTHORITY_MS = 3650 * DAY_MS
/** Some clients refuse server certificates that are valid for longer. */
const SERVER_MS = 397 * DAY_MS
/** Clocks of clients may be behind. */
const EARLIER_MS = 3_600_000

/** Makes a CA that cannot have others below it. Returns its key and its certificate in PEM. */
export async function createAuthority(name: string, nowMs: number): Promise<string> {
  const keys = await generateKeys()
  const certificate = await blankCertificate(keys, { subject: name, issuer: name }, [nowMs, AUTHORITY_MS])
  certificate.extensions = [
    extension(BASIC_CONSTRAINTS, new BasicConstraints({ cA: true, pathLenConstraint: 0 }), true),
    extension(KEY_USAGE, keyUsage(CERT_SIGN | CRL_SIGN), true),
    extension(SUBJECT_KEY_ID, new OctetString({ valueHex: await keyIdOf(keys.publicKey) })),
  ]
  return await signed(certificate, keys.privateKey, keys)
}

/**
 * Issues a server certificate for host names and IP addresses, with the key and certificate of an authority.
 * Returns its key, itself and the authority's certificate in PEM.
 */
export async function issueCertificate(
  authority: string,
  names: readonly string[],
  nowMs: number,
): Promise<string> {
  const issuer = new X509Certificate(authority)
  const issuerKey = createPrivateKey(authority).toCryptoKey(ALGORITHM, false, ['sign'])
  const keys = await generateKeys()
  const certificate = await blankCertificate(
    keys,
    { subject: 'Entrepot', issuer: String(issuer.toLegacyObject().subject['CN']) },
    [nowMs, SERVER_MS],
  )
  certificate.extensions = [
    extension(BASIC_CONSTRAINTS, new BasicConstraints({ cA: false }), true),
    extension(KEY_USAGE, keyUsage(DIGITAL_SIGNATURE), true),
    extension(EXTENDED_KEY_USAGE, new ExtKeyUsage({ keyPurposes: [SERVER_AUTH] })),
    extension(SUBJECT_ALT_NAME, new GeneralNames({ names: names.map(generalName) })),
    extension(AUTHORITY_KEY_ID, authorityKeyId(issuer)),
  ]
  return `${await signed(certificate, issuerKey, keys)}${issuer.toString()}`
}

const BASIC_CONSTRAINTS = '2.5.29.19'
const KEY_USAGE = '2.5.29.15'
const EXTENDED_KEY_USAGE = '2.5.29.37'
const SUBJECT_ALT_NAME = '2.5.29.17'
const SUBJECT_KEY_ID = '2.5.29.14'
const AUTHORITY_KEY_ID = '2.5.29.35'
const COMMON_NAME = '2.5.4.3'
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'

/** Bits of KeyUsage (RFC 5280, section 4.2.1.3). */
const DIGITAL_SIGNATURE = 0x80
const CERT_SIGN = 0x04
const CRL_SIGN = 0x02

/** Tags of GeneralName. */
const DNS_NAME = 2
const IP_ADDRESS = 7

type KeyPair = webcrypto.CryptoKeyPair

async function generateKeys(): Promise<KeyPair> {
  return await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
}

async function blankCertificate(
  { publicKey }: KeyPair,
  { subject, issuer }: { readonly subject: string; readonly issuer: string },
  [nowMs, validMs]: readonly [number, number],
): Promise<Certificate> {
  const certificate = new Certificate({ version: 2, serialNumber: new Integer({ valueHex: serialNumber() }) })
  certificate.subject.typesAndValues.push(commonName(subject))
  certificate.issuer.typesAndValues.push(commonName(issuer))
  certificate.notBefore.value = new Date(nowMs - EARLIER_MS)
  certificate.notAfter.value = new Date(nowMs + validMs)
  await certificate.subjectPublicKeyInfo.importKey(publicKey)
  return certificate
}

/** Signs, and returns the pair's key and the certificate in PEM. */
async function signed(
  certificate: Certificate,
  key: webcrypto.CryptoKey,
  { privateKey }: KeyPair,
): Promise<string> {
  await certificate.sign(key, 'SHA-256')
  const pkcs8 = await crypto.subtle.exportKey('pkcs8', privateKey)
  return pem('PRIVATE KEY', pkcs8) + pem('CERTIFICATE', certificate.toSchema(true).toBER(false))
}

function pem(label: string, der: ArrayBuffer): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

/** Positive, and 16 bytes long. */
function serialNumber(): ArrayBuffer {
  const bytes = new Uint8Array(randomBytes(16))
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40
  return bytes.buffer
}

function commonName(value: string): AttributeTypeAndValue {
  return new AttributeTypeAndValue({ type: COMMON_NAME, value: new Utf8String({ value }) })
}

interface Encodable {
  toSchema?(): { toBER(sizeOnly: boolean): ArrayBuffer }
  toBER?(sizeOnly: boolean): ArrayBuffer
}

function extension(extnID: string, value: Encodable, critical = false): Extension {
  const extnValue = value.toSchema?.().toBER(false) ?? value.toBER?.(false)
  return new Extension({ extnID, critical, extnValue: extnValue ?? new ArrayBuffer(0) })
}

function keyUsage(bits: number): BitString {
  // The unused bits at the end are those below the lowest one that is set.
  return new BitString({ valueHex: new Uint8Array([bits]).buffer, unusedBits: Math.log2(bits & -bits) })
}

function generalName(name: string): GeneralName {
  if (isIP(name) === 0) return new GeneralName({ type: DNS_NAME, value: name })
  const valueHex = new Uint8Array(addressBytes(name)).buffer
  return new GeneralName({ type: IP_ADDRESS, value: new OctetString({ valueHex }) })
}

/** The first way of RFC 5280, section 4.2.1.2. */
async function keyIdOf(publicKey: webcrypto.CryptoKey): Promise<ArrayBuffer> {
  const raw = Buffer.from(await crypto.subtle.exportKey('raw', publicKey))
  return new Uint8Array(createHash('sha1').update(raw).digest()).buffer
}

function authorityKeyId(issuer: X509Certificate): AuthorityKeyIdentifier {
  const parsed = Certificate.fromBER(new Uint8Array(issuer.raw).buffer)
  const bits = parsed.subjectPublicKeyInfo.subjectPublicKey.valueBlock.valueHexView
  const valueHex = new Uint8Array(createHash('sha1').update(bits).digest()).buffer
  return new AuthorityKeyIdentifier({ keyIdentifier: new OctetString({ valueHex }) })
}
