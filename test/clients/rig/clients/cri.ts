import { once } from 'node:events'
import { connect, type IncomingHttpHeaders } from 'node:http2'
import { createConnection } from 'node:net'
import type { PullLogin } from './puller.ts'

/** The two calls of the CRI's ImageService that a pull needs. */
export interface CriImages {
  pullImage(image: string, login?: PullLogin): Promise<void>
  removeImage(image: string): Promise<void>
  close(): void
}

const SERVICE = '/runtime.v1.ImageService'

/**
 * Speaks gRPC to the container runtime at a unix socket. Both requests have the same shape on the wire:
 * field 1, a message ImageSpec, whose field 1 is the image's name.
 */
export async function connectCri(socket: string): Promise<CriImages> {
  const session = connect('http://localhost', { createConnection: () => createConnection(socket) })
  await once(session, 'connect')
  const call = async (method: string, image: string, login?: PullLogin): Promise<void> => {
    const spec = lengthDelimited(1, lengthDelimited(1, Buffer.from(image)))
    const message = login === undefined ? spec : Buffer.concat([spec, authOf(login)])
    const frame = Buffer.alloc(5)
    frame.writeUInt32BE(message.length, 1)
    const stream = session.request({
      ':method': 'POST',
      ':path': `${SERVICE}/${method}`,
      'content-type': 'application/grpc',
      te: 'trailers',
    })
    // An error without a body comes as headers alone ("trailers-only"), otherwise the status is in the
    // trailers.
    let status: string | undefined
    let text = ''
    const read = (headers: IncomingHttpHeaders): void => {
      const { 'grpc-status': code, 'grpc-message': message } = headers
      if (typeof code === 'string') status = code
      if (typeof message === 'string') text = decodeURIComponent(message)
    }
    stream.on('response', read)
    stream.on('trailers', read)
    stream.resume()
    stream.end(Buffer.concat([frame, message]))
    await once(stream, 'close')
    if (status !== '0') throw new Error(`${method} ended with gRPC status ${status}: ${text}`)
  }
  return {
    pullImage: async (image, login) => await call('PullImage', image, login),
    removeImage: async image => await call('RemoveImage', image),
    close: () => session.close(),
  }
}

/** Field 2 of a PullImageRequest: an AuthConfig with user name and password, as the kubelet sends it. */
function authOf({ username, password }: PullLogin): Buffer {
  const texts = [lengthDelimited(1, Buffer.from(username)), lengthDelimited(2, Buffer.from(password))]
  return lengthDelimited(2, Buffer.concat(texts))
}

function lengthDelimited(field: number, bytes: Buffer): Buffer {
  if (bytes.length > 127) throw new RangeError('longer than a one-byte length can say')
  return Buffer.concat([Buffer.from([(field << 3) | 2, bytes.length]), bytes])
}
