import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { OciError } from '../../oci/error.ts'
import { type AdminSender, type GuardOptions, judgeAdminSender } from '../guard.ts'
import type { AdminPageParts, Viewer } from './page-parts.ts'
import { type PageSession, PageSessions } from './page-sessions.ts'

type DoormanParts = Pick<AdminPageParts, 'currentToken' | 'access' | 'isSocket' | 'events' | 'about'>

/** Knows the viewers of pages: logs them in and out, and proves at each request that they still may. */
export class Doorman {
  readonly #parts: DoormanParts
  readonly #sessions = new PageSessions(() => performance.now())
  /** Browsers send cookies to every port of a host, so that each mirror needs a name of its own. */
  readonly #cookie: string

  constructor(parts: DoormanParts) {
    this.#parts = parts
    const own = createHash('sha256').update(parts.about.store).digest('hex').slice(0, 8)
    this.#cookie = `entrepot-${own}`
  }

  async options(): Promise<GuardOptions> {
    const { isSocket } = this.#parts
    return { token: (await this.#parts.currentToken())?.reveal(), isSocket }
  }

  /** Finds who asks for a page. */
  async viewerOf(request: Pick<IncomingMessage, 'headers' | 'socket'>): Promise<Viewer> {
    const options = await this.options()
    const needsToken = options.token !== undefined
    const session = this.#sessions.find(this.#idIn(request))
    const sender = session === undefined ? undefined : await this.#prove(session, request, options)
    if (session !== undefined && sender !== undefined)
      return { sees: 'admin', who: sender.who, row: sender.row, session, needsToken }
    const sees = needsToken ? 'numbers' : 'names'
    return { sees, who: 'anonymous', row: undefined, session: undefined, needsToken }
  }

  /** Begins a session and returns its cookie. Throws for wrong credentials. */
  async logIn(request: IncomingMessage, form: URLSearchParams): Promise<string> {
    const options = await this.options()
    const authorization = options.token === undefined ? undefined : authorizationIn(form)
    const from = request.socket.remoteAddress
    const who = form.get('user') || 'administrator'
    const refuse = (refusal: unknown): never => {
      const reason = refusal instanceof Error ? refusal.message : undefined
      this.#parts.events.audited({ action: 'login-refused', who, what: 'admin page', from, reason })
      throw refusal
    }
    const credentials = { authorization, address: from }
    const judged = await judgeAdminSender(credentials, { ...options, access: this.#parts.access }).catch(
      refuse,
    )
    if (judged.refusal !== undefined) refuse(judged.refusal)
    this.#parts.events.audited({
      action: 'login',
      who: judged.who,
      what: 'admin page',
      from,
      row: judged.row,
    })
    return this.#cookieOf(request, this.#sessions.begin(authorization).id)
  }

  /** Ends a session and returns a cookie without one. */
  logOut(request: IncomingMessage, { session }: Viewer): string {
    if (session !== undefined) this.#sessions.end(session.id)
    return `${this.#cookieOf(request, '')}; Max-Age=0`
  }

  /** `undefined` if the session has ended with its credentials. */
  async #prove(
    session: PageSession,
    { socket }: Pick<IncomingMessage, 'socket'>,
    options: GuardOptions,
  ): Promise<AdminSender | undefined> {
    const { authorization } = session
    // A session without credentials holds only while none are needed.
    if (authorization === undefined && options.token !== undefined) return undefined
    try {
      const credentials = { authorization, address: socket.remoteAddress }
      const sender = await judgeAdminSender(credentials, { ...options, access: this.#parts.access })
      return sender.refusal === undefined ? sender : undefined
    } catch (error) {
      if (error instanceof OciError) return undefined
      throw error
    }
  }

  #idIn({ headers }: Pick<IncomingMessage, 'headers'>): string | undefined {
    const cookies = (headers.cookie ?? '').split(';').map(cookie => cookie.trim())
    const own = cookies.find(cookie => cookie.startsWith(`${this.#cookie}=`))
    return own?.slice(this.#cookie.length + 1)
  }

  /** Without a path, a browser sends the cookie to the folder of the page, behind whatever prefix. */
  #cookieOf({ headers }: IncomingMessage, id: string): string {
    const isEncrypted = headers.origin?.startsWith('https:') === true
    return `${this.#cookie}=${id}; HttpOnly; SameSite=Strict${isEncrypted ? '; Secure' : ''}`
  }
}

function authorizationIn(form: URLSearchParams): string {
  const [user, secret] = [form.get('user') ?? '', form.get('secret')?.trim() ?? '']
  if (secret === '') throw new OciError('UNAUTHORIZED', 'the token or password is missing')
  if (user === '') return `Bearer ${secret}`
  return `Basic ${Buffer.from(`${user}:${secret}`).toString('base64')}`
}
