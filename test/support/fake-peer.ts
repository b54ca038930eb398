import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { sharedKeyListening } from '../../src/http/tls/shared-key.ts'
import { PEER_FIELD, PeerKey } from '../../src/peers/peer-key.ts'
import {
  ANSWER_FIELD,
  answerText,
  type PeerAnswer,
  type PeerQuestion,
  parseQuestion,
} from '../../src/peers/protocol.ts'
import { PEER_SECRET } from './replicas.ts'

/** Reaction of a fake replica to a question other than `hello`. */
export interface FakeAnswer {
  /** `undefined` answers nothing. */
  readonly answer: PeerAnswer | undefined
  readonly body?: Uint8Array
  /** Size that the headers state; by default that of the body. */
  readonly sizeBytes?: number
  /** Sends only this many bytes of the body, then destroys the connection, or sends nothing more. */
  readonly cut?: { readonly at: number; readonly ending: 'destroy' | 'stall' }
}

/** A replica that a test scripts. */
export interface FakePeer extends AsyncDisposable {
  readonly port: number
  /** The questions it got, without greetings. */
  readonly questions: readonly PeerQuestion[]
  react: (question: PeerQuestion) => FakeAnswer
  /** Number of connections it has accepted. */
  readonly connections: number
  /** Closes its connections. */
  dropConnections(): void
}

export interface FakePeerOptions {
  readonly secret?: string
  readonly cluster?: string
  /** Sent instead of the version of the protocol. */
  readonly protocol?: string
  readonly port?: number
}

/** A server that has the secret of a cluster. */
export interface PeerServer extends AsyncDisposable {
  readonly port: number
  /** Number of connections it has accepted. */
  readonly connections: number
  dropConnections(): void
}

export async function startPeerServer(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
  {
    key = new PeerKey(PEER_SECRET, 'test'),
    port = 0,
  }: { readonly key?: PeerKey; readonly port?: number } = {},
): Promise<PeerServer> {
  const options = sharedKeyListening(key.tls)
  const server = createServer(options, answer).on('tlsClientError', (_, socket) => socket.destroy())
  let connections = 0
  server.on('secureConnection', () => (connections += 1))
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    get connections() {
      return connections
    },
    dropConnections: () => server.closeAllConnections(),
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

const INSTANCE = 'entrepot-fafafafafafa'

/** Starts a replica that knows nothing until the test says otherwise. */
export async function startFakePeer(options: FakePeerOptions = {}): Promise<FakePeer> {
  const key = new PeerKey(options.secret ?? PEER_SECRET, options.cluster ?? 'test')
  const questions: PeerQuestion[] = []
  let react: FakePeer['react'] = () => ({ answer: { kind: 'refused', why: 'busy' } })
  const answerTo = (request: IncomingMessage, response: ServerResponse): void => {
    const question = parseQuestion(request.url ?? '')
    if (question === undefined) throw new Error(`no question: ${request.url}`)
    if (question.kind !== 'hello') questions.push(question)
    const hello: FakeAnswer = { answer: { kind: 'hello', version: 'fake', isDraining: false } }
    send(question.kind === 'hello' ? hello : react(question), { request, response })
  }
  const send = (
    { answer, body = new Uint8Array(), sizeBytes = body.byteLength, cut }: FakeAnswer,
    { request, response }: { readonly request: IncomingMessage; readonly response: ServerResponse },
  ): void => {
    if (answer === undefined) return
    const nonce = String(request.headers[PEER_FIELD]).split(' ')[4] ?? ''
    const text = answerText(answer)
    const field = key.signAnswer(INSTANCE, nonce, text)
    response.writeHead(200, {
      [PEER_FIELD]: options.protocol === undefined ? field : field.replace(/^\d+/, options.protocol),
      [ANSWER_FIELD]: text,
      'Content-Length': String(sizeBytes),
    })
    if (cut === undefined) response.end(body)
    else
      response.write(body.subarray(0, cut.at), () => {
        if (cut.ending === 'destroy') response.destroy()
      })
  }
  const server = await startPeerServer(answerTo, { key, port: options.port ?? 0 })
  return {
    port: server.port,
    questions,
    get connections() {
      return server.connections
    },
    get react() {
      return react
    },
    set react(next) {
      react = next
    },
    dropConnections: () => server.dropConnections(),
    [Symbol.asyncDispose]: async () => await server[Symbol.asyncDispose](),
  }
}
