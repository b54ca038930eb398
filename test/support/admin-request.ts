import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { readReply, type TestMirror } from './mirror.ts'

/** Sends one request to the admin listener with a bearer token. */
export async function openAdmin(
  { daemon }: Pick<TestMirror, 'daemon'>,
  {
    method,
    path,
    token,
  }: { readonly method: string; readonly path: string; readonly token: string | undefined },
): Promise<{ readonly status: number; readonly text: string }> {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
  const asked = request(`http://${daemon.addresses.admin}${path}`, { method, headers, agent: false }).end()
  const [response] = (await once(asked, 'response')) as [IncomingMessage]
  const { status, body } = await readReply(response)
  return { status, text: body.toString() }
}
