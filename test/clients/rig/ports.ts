import { type AddressInfo, createConnection, createServer } from 'node:net'

/** A port on 127.0.0.1 that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise(resolve => server.close(resolve))
  return port
}

/** True if a server accepts connections there. */
export async function accepts(address: { readonly host: string; readonly port: number }): Promise<boolean> {
  return await new Promise((resolve, reject) => {
    const socket = createConnection(address)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', reject)
  })
}
