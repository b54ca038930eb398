import { createHmac } from 'node:crypto'

const PREFIX = 'whsec_'
/** Standard Webhooks asks for keys of 24 to 64 bytes. */
const KEY_BYTES_MIN = 24

/**
 * Reads the key of an endpoint: `whsec_` and base64, as Standard Webhooks writes it, or any text of at least
 * 24 bytes. `undefined` if it is too short.
 */
export function parseSigningKey(text: string): Uint8Array | undefined {
  const trimmed = text.trim()
  const isEncoded = trimmed.startsWith(PREFIX)
  const key = isEncoded ? Buffer.from(trimmed.slice(PREFIX.length), 'base64') : Buffer.from(trimmed, 'utf8')
  return key.length < KEY_BYTES_MIN ? undefined : key
}

interface Signed {
  readonly id: string
  /** Time of this attempt. */
  readonly atMs: number
  readonly body: string
}

/** Header fields of Standard Webhooks 1.0. Without a key the request is not signed. */
export function signatureFields(
  key: Uint8Array | undefined,
  { id, atMs, body }: Signed,
): Readonly<Record<string, string>> {
  const timestamp = String(Math.floor(atMs / 1000))
  const named = { 'webhook-id': id, 'webhook-timestamp': timestamp }
  if (key === undefined) return named
  const sum = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64')
  return { ...named, 'webhook-signature': `v1,${sum}` }
}
