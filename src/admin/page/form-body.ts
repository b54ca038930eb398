import type { IncomingMessage } from 'node:http'
import { OciError } from '../../oci/error.ts'

const BYTES_MAX = 16 * 1024
const WAIT_MS = 10_000

/** Reads the fields of a form. */
export async function readForm(request: IncomingMessage): Promise<URLSearchParams> {
  const [type = ''] = (request.headers['content-type'] ?? '').split(';')
  if (type.trim().toLowerCase() !== 'application/x-www-form-urlencoded')
    throw new OciError('REQUEST_INVALID', 'a form must be application/x-www-form-urlencoded')
  const late = setTimeout(() => request.destroy(new Error('the form did not arrive in time')), WAIT_MS)
  try {
    const pieces: Buffer[] = []
    let sizeBytes = 0
    for await (const piece of request) {
      const bytes = piece as Buffer
      sizeBytes += bytes.byteLength
      if (sizeBytes > BYTES_MAX)
        throw new OciError('REQUEST_INVALID', `a form has at most ${BYTES_MAX} bytes`)
      pieces.push(bytes)
    }
    return new URLSearchParams(Buffer.concat(pieces).toString())
  } finally {
    clearTimeout(late)
  }
}
