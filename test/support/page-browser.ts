import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { type Reply, readReply, type TestMirror } from './mirror.ts'

/** A browser without scripts: it keeps one cookie and sends forms as pages of the mirror would. */
export class PageBrowser {
  readonly #address: string
  cookie: string | undefined

  constructor({ daemon }: Pick<TestMirror, 'daemon'>) {
    this.#address = daemon.addresses.admin ?? ''
  }

  async get(path: string, headers: Readonly<Record<string, string>> = {}): Promise<Reply> {
    return await this.#send('GET', path, headers)
  }

  /** Sends a form; further headers replace those of a page of the mirror. */
  async post(
    path: string,
    fields: Readonly<Record<string, string>>,
    headers: Readonly<Record<string, string>> = { 'sec-fetch-site': 'same-origin' },
  ): Promise<Reply> {
    const body = new URLSearchParams(fields).toString()
    const isChunked = headers['transfer-encoding'] !== undefined
    const type = {
      'content-type': 'application/x-www-form-urlencoded',
      ...(isChunked ? {} : { 'content-length': String(body.length) }),
    }
    return await this.#send('POST', path, { ...type, ...headers }, body)
  }

  /** Logs in; with `secret` as the token of administrators. */
  async logIn(secret = ''): Promise<Reply> {
    return await this.post('/login', { user: '', secret })
  }

  /** The token of the forms on a page. */
  async formToken(path = '/'): Promise<string> {
    const page = (await this.get(path)).body.toString()
    return /name="form" value="([^"]+)"/.exec(page)?.[1] ?? ''
  }

  /** Sends a form that changes something. */
  async change(path: string, fields: Readonly<Record<string, string>>): Promise<Reply> {
    return await this.post(path, { ...fields, form: await this.formToken() })
  }

  async #send(
    method: string,
    path: string,
    headers: Readonly<Record<string, string>>,
    body?: string,
  ): Promise<Reply> {
    const cookie = this.cookie === undefined ? {} : { cookie: this.cookie }
    const asked = request(`http://${this.#address}${path}`, {
      method,
      headers: { ...cookie, ...headers },
      agent: false,
    }).end(body)
    const [response] = (await once(asked, 'response')) as [IncomingMessage]
    const [set = ''] = response.headers['set-cookie'] ?? []
    if (set !== '') this.cookie = set.split(';')[0]
    return await readReply(response)
  }
}
