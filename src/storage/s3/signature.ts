import { createHash, createHmac } from 'node:crypto'

/** Credentials, as the SDK gives them. */
export interface SigningKeys {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string | undefined
}

/** A request to sign. */
export interface Unsigned {
  readonly method: string
  readonly host: string
  /** Encoded; the request has no query. */
  readonly path: string
  readonly body: Uint8Array
  readonly region: string
  readonly atMs: number
}

const ALGORITHM = 'AWS4-HMAC-SHA256'
const NOTHING_SHA256 = sha256(new Uint8Array(0))

/** Signs requests to S3 by AWS Signature Version 4. Keeps the key that it derives for a day. */
export class Signatures {
  #derived: { readonly of: string; readonly key: Buffer } | undefined

  /** The headers of a signed request. */
  sign({ method, host, path, body, region, atMs }: Unsigned, keys: SigningKeys): Record<string, string> {
    const time = new Date(atMs).toISOString().replaceAll(/[-:]|\.\d+/g, '')
    const date = time.slice(0, 8)
    const hash = body.byteLength === 0 ? NOTHING_SHA256 : sha256(body)
    const { sessionToken } = keys
    const headers: Record<string, string> = {
      host,
      'x-amz-content-sha256': hash,
      'x-amz-date': time,
      ...(sessionToken === undefined ? {} : { 'x-amz-security-token': sessionToken }),
    }
    const names = Object.keys(headers)
    const lines = names.map(name => `${name}:${headers[name]}\n`).join('')
    const signed = names.join(';')
    const canonical = `${method}\n${path}\n\n${lines}\n${signed}\n${hash}`
    const scope = `${date}/${region}/s3/aws4_request`
    const text = `${ALGORITHM}\n${time}\n${scope}\n${sha256(canonical)}`
    const signature = createHmac('sha256', this.#keyFor(keys, date, region))
      .update(text)
      .digest('hex')
    const credential = `${keys.accessKeyId}/${scope}`
    headers['authorization'] =
      `${ALGORITHM} Credential=${credential}, SignedHeaders=${signed}, Signature=${signature}`
    return headers
  }

  #keyFor({ secretAccessKey }: SigningKeys, date: string, region: string): Buffer {
    const of = `${date}/${region}/${secretAccessKey}`
    if (this.#derived?.of === of) return this.#derived.key
    let key: Buffer | string = `AWS4${secretAccessKey}`
    for (const part of [date, region, 's3', 'aws4_request'])
      key = createHmac('sha256', key).update(part).digest()
    this.#derived = { of, key: Buffer.from(key) }
    return this.#derived.key
  }
}

/** The path of a key below the path of its bucket, encoded as S3 signs it: once, and the slashes stay. */
export function pathOf(base: string, key: string): string {
  const encoded = encodeURIComponent(key).replaceAll(/%2F|[!'()*]/g, text =>
    text === '%2F' ? '/' : `%${text.charCodeAt(0).toString(16).toUpperCase()}`,
  )
  return `${base.endsWith('/') ? base : `${base}/`}${encoded}`
}

function sha256(data: Uint8Array | string): string {
  return createHash('sha256').update(data).digest('hex')
}
