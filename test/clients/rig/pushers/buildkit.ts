import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Child } from '../child.ts'
import { GO_BIN } from '../clients/containerd.ts'
import { type PushClient, type PusherKind, type PushSite, programOf } from './pusher.ts'

const BUILDKITD = join(GO_BIN, 'buildkitd')
const BUILDCTL = join(GO_BIN, 'buildctl')
const PLATFORMS = ['--opt', 'platform=linux/amd64,linux/arm64']

/** What is printed of a step whose layer came from the cache in the registry. */
const FETCHED = /^#\d+ sha256:[0-9a-f]{64} \S+ \/ \S+ (?:[0-9.]+s )?done$/gm

/** A BuildKit of its own, which pushes what it builds, exports its cache, and builds again with that. */
export const buildkitd: PusherKind = {
  name: 'buildkit',
  what: 'an index with provenance, and its cache',
  executables: [BUILDKITD, BUILDCTL, 'runc'],
  start,
}

async function start(site: PushSite): Promise<PushClient> {
  const { world, transport, address, username, password } = site
  const { room, certificates } = world
  const run = await programOf(site, 'buildctl')
  const docker = room.path(`push-buildctl-${transport}`, '.docker')
  await mkdir(docker, { recursive: true })
  const login = { auths: { [address]: { auth: btoa(`${username}:${password}`) } } }
  await writeFile(join(docker, 'config.json'), JSON.stringify(login))

  const directory = await room.makeDirectory(`push-buildkitd-${transport}`)
  const file = join(directory, 'buildkitd.toml')
  const way = transport === 'http' ? 'http = true' : `ca = ["${certificates.caFile}"]`
  await writeFile(file, `[registry."${address}"]\n  ${way}\n`)
  const socket = `unix://${join(directory, 'buildkitd.sock')}`
  const places = ['--config', file, '--root', join(directory, 'root'), '--addr', socket]
  const worker = ['--oci-worker-snapshotter=native', '--oci-worker-net=host', '--containerd-worker=false']
  const daemon = new Child('buildkitd', room.inside([BUILDKITD, ...places, ...worker]))
  const buildctl = async (...words: readonly string[]): Promise<string> =>
    await run('/bin/sh', '-c', 'exec "$@" 2>&1', 'sh', BUILDCTL, '--addr', socket, ...words)
  await daemon.ready(async () => (await buildctl('debug', 'workers')) !== '')

  const build = async (dockerfile: string, ...words: readonly string[]): Promise<string> => {
    const context = await room.makeDirectory(`push-buildkit-context-${transport}`)
    await writeFile(join(context, 'Dockerfile'), dockerfile)
    const locals = ['--local', `context=${context}`, '--local', `dockerfile=${context}`]
    return await buildctl('build', '--progress=plain', '--frontend=dockerfile.v0', ...locals, ...words)
  }
  const own = 'FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /built-for-$TARGETARCH\n'
  return {
    push: async image => {
      const output = ['--output', `type=image,name=${image},push=true,oci-mediatypes=true`]
      const provenance = ['--opt', 'attest:provenance=mode=max']
      const cache = ['--export-cache', `type=registry,ref=${image}-cache,mode=max`]
      await build(own, ...PLATFORMS, ...provenance, ...output, ...cache)
      return undefined
    },
    pullAgain: async image => {
      const output = ['--output', `type=oci,dest=${join(directory, 'built.tar')}`]
      await buildctl('prune', '--all')
      const cache = ['--import-cache', `type=registry,ref=${image}-cache`]
      const printed = await build(own, ...PLATFORMS, ...cache, ...output)
      const fetched = printed.match(FETCHED) ?? []
      if (fetched.length !== 2)
        throw new Error(`the layers of two platforms are not in the cache:\n${printed}`)
      await buildctl('prune', '--all')
      await build(`FROM ${image}\nCOPY Dockerfile /again\n`, ...output)
    },
    [Symbol.asyncDispose]: async () => await daemon.stop(),
  }
}
