import { HttpServer, SERVER_LIMITS, type ServerLimits } from '../http/server.ts'
import type { ListenerTls } from '../http/tls/listener-tls.ts'
import { Bodies } from './bodies.ts'
import { type GateParts, handleGate } from './gate.ts'

/** Certificate and terms of the gate's listener. */
export type GateTls = ListenerTls

/** The open gate. Disposing of it ends reviews within a second. */
export interface OpenGate extends AsyncDisposable {
  /** `host:port`. */
  readonly address: string
  /** Uses a new certificate for all further connections. */
  secure(tls: GateTls): void
}

/** A few API servers ask, each over a few connections, which they keep for 90 s. */
const LIMITS: ServerLimits = { ...SERVER_LIMITS, connectionsMax: 1024, keepAliveMs: 180_000 }
const CLOSE_MS = 1000

/** Listens for reviews. Rejects if the address is not available. */
export async function openGate(
  parts: Omit<GateParts, 'bodies'>,
  address: { readonly kind: 'tcp'; readonly host: string; readonly port: number },
  tls: GateTls,
): Promise<OpenGate> {
  const bodies = new Bodies()
  const handler = handleGate.bind(undefined, { ...parts, bodies })
  const server = new HttpServer(handler, LIMITS, undefined, tls)
  const bound = await server.listen(address)
  return {
    address: bound,
    secure: next => server.secure(next),
    [Symbol.asyncDispose]: async () => {
      const timer = setTimeout(() => server.destroy(), CLOSE_MS)
      await server.close()
      clearTimeout(timer)
    },
  }
}
