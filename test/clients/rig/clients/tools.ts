import { rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { run } from '../child.ts'
import type { World } from '../world.ts'
import type { Puller, PullerKind } from './puller.ts'

const GO_BIN = join(homedir(), 'go', 'bin')

/** Copies an image from a registry that it names into a file. */
export const crane: PullerKind = toolOf('crane', 'crane/', (image, file) => [
  'pull',
  '--platform',
  'linux/amd64',
  image,
  file,
])

/** The same by regclient. */
export const regctl: PullerKind = toolOf('regctl', 'regclient/', (image, file) => [
  'image',
  'export',
  '--platform',
  'linux/amd64',
  image,
  file,
])

function toolOf(
  name: string,
  agent: string,
  argv: (image: string, file: string) => readonly string[],
): PullerKind {
  const executable = join(GO_BIN, name)
  return {
    name,
    agent,
    executables: [executable],
    start: async world => await start(world, executable, argv),
  }
}

async function start(
  world: World,
  executable: string,
  argv: (image: string, file: string) => readonly string[],
): Promise<Puller> {
  const file = world.room.path('pulled.tar')
  const env = { HOME: world.room.path('home'), SSL_CERT_FILE: world.certificates.caFile }
  const pull = async (image: string): Promise<void> => {
    const { code, stdout, stderr } = await run(world.room.inside([executable, ...argv(image, file)]), { env })
    if (code !== 0) throw new Error(`${executable} of ${image} failed:\n${stdout}${stderr}`)
  }
  return await Promise.resolve({
    pull,
    forget: async () => await rm(file, { force: true }),
    [Symbol.asyncDispose]: async () => await rm(file, { force: true }),
  })
}
