import { OciError } from '../../oci/error.ts'
import type { Reply } from '../reply.ts'
import { type AskedAddress, mirrorUrl, setupIndex, setupScript } from './script.ts'

/** `GET /setup/` and `GET /setup/<client>.sh`; `undefined` for a client that has no script. */
export function answerSetup(client: string | undefined, address: AskedAddress): Reply | undefined {
  const url = mirrorUrl(address)
  if (url === undefined)
    throw new OciError('REQUEST_INVALID', 'the Host field is no address that a client could be pointed at')
  const text = client === undefined ? setupIndex(url) : setupScript(client, url)
  return text === undefined ? undefined : textReply(text)
}

/** The address in a script is that of the request, so that no cache on the way may keep it. */
function textReply(text: string): Reply {
  const bytes = Buffer.from(text)
  return {
    status: 200,
    headers: {
      'Content-Type': 'text/plain; charset=utf-8',
      'Content-Length': String(bytes.byteLength),
      'Cache-Control': 'no-store',
      'X-Content-Type-Options': 'nosniff',
    },
    body: { kind: 'bytes', bytes },
    outcome: undefined,
  }
}
