import type { IncomingMessage, ServerResponse } from 'node:http'
import { bodyOf, dropRest, readSmallBody } from '../../http/request-body.ts'
import { OciError } from '../../oci/error.ts'

const BYTES_MAX = 16 * 1024
const WAIT_MS = 10_000

/** Reads the fields of a form. BODY_TOO_LARGE if it is larger than 16 KiB. */
export async function readForm(request: IncomingMessage, response: ServerResponse): Promise<URLSearchParams> {
  const [type = ''] = (request.headers['content-type'] ?? '').split(';')
  if (type.trim().toLowerCase() !== 'application/x-www-form-urlencoded')
    throw new OciError('REQUEST_INVALID', 'a form must be application/x-www-form-urlencoded')
  const late = setTimeout(() => request.destroy(new Error('the form did not arrive in time')), WAIT_MS)
  const body = bodyOf(request, response)
  try {
    return new URLSearchParams((await readSmallBody(body, 'form', BYTES_MAX)).toString())
  } catch (error) {
    // A browser reads the answer only once it has sent its form.
    if (!(await dropRest(body))) response.shouldKeepAlive = false
    throw error
  } finally {
    clearTimeout(late)
  }
}
