import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { GO_BIN } from '../clients/containerd.ts'
import { type PushClient, type PusherKind, type PushSite, programOf } from './pusher.ts'

const CRANE = join(GO_BIN, 'crane')
const REGCTL = join(GO_BIN, 'regctl')
const HELM = join(GO_BIN, 'helm')
const COSIGN = join(GO_BIN, 'cosign')

const NOTHING_TO_STOP = { [Symbol.asyncDispose]: async () => await Promise.resolve() }

async function startCrane(site: PushSite): Promise<PushClient> {
  const { world, transport, address, username, password, layout, digest } = site
  const run = await programOf(site, 'crane')
  await run(CRANE, 'auth', 'login', address, '--username', username, '--password', password)
  return {
    push: async image => {
      await run(CRANE, 'push', layout, image)
      return digest
    },
    pullAgain: async image => {
      await run(CRANE, 'pull', '--format', 'oci', image, world.room.path(`push-crane-pulled-${transport}`))
      await run(CRANE, 'validate', '--remote', image)
    },
    ...NOTHING_TO_STOP,
  }
}

/** `crane append`: a new layer on an image that is there, whose blobs it mounts. */
async function startCraneAppend(site: PushSite): Promise<PushClient> {
  const { world, layout, address, username, password } = site
  const run = await programOf(site, 'crane-append')
  await run(CRANE, 'auth', 'login', address, '--username', username, '--password', password)
  const layer = world.room.path('push-layer.tar')
  await run('/usr/bin/tar', '-C', layout, '-cf', layer, 'oci-layout')
  const platform = ['--platform', 'linux/amd64']
  return {
    push: async image => {
      const base = image.replace(/:([^:/]+)$/, '-base:$1')
      await run(CRANE, 'push', layout, base)
      await run(CRANE, 'append', ...platform, '--base', base, '--new_layer', layer, '--new_tag', image)
      return undefined
    },
    pullAgain: async image => void (await run(CRANE, 'validate', '--remote', image)),
    ...NOTHING_TO_STOP,
  }
}

async function startRegctl(site: PushSite): Promise<PushClient> {
  const { world, transport, address, username, password, layout, tag, digest } = site
  const run = await programOf(site, 'regctl')
  const tls = transport === 'https' ? 'enabled' : 'disabled'
  const host = ['--host', `reg=${address},user=${username},pass=${password},tls=${tls}`]
  const copy = async (from: string, to: string): Promise<void> =>
    void (await run(REGCTL, ...host, 'image', 'copy', from, to))
  return {
    push: async image => {
      await copy(`ocidir://${layout}:${tag}`, image)
      return digest
    },
    pullAgain: async image =>
      await copy(image, `ocidir://${world.room.path(`push-regctl-pulled-${transport}`)}:${tag}`),
    ...NOTHING_TO_STOP,
  }
}

async function startHelm(site: PushSite): Promise<PushClient> {
  const { world, transport, address, username, password } = site
  const run = await programOf(site, 'helm')
  const way = transport === 'http' ? ['--plain-http'] : ['--ca-file', world.certificates.caFile]
  await run(HELM, 'registry', 'login', address, '--username', username, '--password', password, ...way)
  const charts = await world.room.makeDirectory(`push-helm-charts-${transport}`)
  return {
    push: async image => {
      const [, folder = '', chart = '', version = ''] = /^(.+)\/([^/:]+):([^:]+)$/.exec(image) ?? []
      const directory = await world.room.makeDirectory(`push-helm-charts-${transport}/${chart}`)
      await writeFile(join(directory, 'Chart.yaml'), `apiVersion: v2\nname: ${chart}\nversion: ${version}\n`)
      await run(HELM, 'package', directory, '--destination', charts)
      const packed = join(charts, `${chart}-${version}.tgz`)
      await run(HELM, 'push', packed, `oci://${folder}`, ...way)
      return undefined
    },
    pullAgain: async image => {
      const [, chart = '', version = ''] = /^(.+):([^:]+)$/.exec(image) ?? []
      const pulled = await world.room.makeDirectory(`push-helm-pulled-${transport}`)
      const where = ['--version', version, '--destination', pulled, ...way]
      await run(HELM, 'pull', `oci://${chart}`, ...where)
    },
    ...NOTHING_TO_STOP,
  }
}

/** Signs an image that crane has pushed, with a key, and finds the signature again. */
function cosignPusher(mode: 'legacy' | 'oci-1-1'): PusherKind['start'] {
  return async site => {
    const { world, transport, username, password } = site
    const crane = await startCrane(site)
    const keys = await world.room.makeDirectory(`push-cosign-${mode}-${transport}-keys`)
    const env = { COSIGN_PASSWORD: 'secret', ...(mode === 'legacy' ? {} : { COSIGN_EXPERIMENTAL: '1' }) }
    const run = await programOf(site, `cosign-${mode}`, env)
    const prefix = join(keys, 'key')
    await run(COSIGN, 'generate-key-pair', '--output-key-prefix', prefix)
    const way =
      transport === 'http' ? ['--allow-http-registry'] : ['--registry-cacert', world.certificates.caFile]
    const login = [...way, '--registry-username', username, '--registry-password', password]
    return {
      push: async image => {
        const digest = await crane.push(image)
        const named = `${image.replace(/:[^:/]+$/, '')}@${digest}`
        const how = ['--yes', '--tlog-upload=false', `--registry-referrers-mode=${mode}`]
        await run(COSIGN, 'sign', '--key', `${prefix}.key`, ...how, ...login, named)
        return digest
      },
      pullAgain: async image => {
        const how = ['--insecure-ignore-tlog', ...(mode === 'legacy' ? [] : ['--experimental-oci11'])]
        await run(COSIGN, 'verify', '--key', `${prefix}.pub`, ...how, ...login, image)
      },
      ...NOTHING_TO_STOP,
    }
  }
}

/** Clients that `go install` has built. */
export const GO_TOOLS: readonly PusherKind[] = [
  { name: 'crane', what: 'an index of two platforms', executables: [CRANE], start: startCrane },
  { name: 'crane-append', what: 'a layer on an image', executables: [CRANE], start: startCraneAppend },
  { name: 'regctl', what: 'an index of two platforms', executables: [REGCTL], start: startRegctl },
  { name: 'helm', what: 'a chart', executables: [HELM], start: startHelm },
  {
    name: 'cosign',
    what: 'a signature under a tag',
    executables: [CRANE, COSIGN],
    start: cosignPusher('legacy'),
  },
  {
    name: 'cosign-referrers',
    what: 'a signature as a referrer',
    executables: [CRANE, COSIGN],
    start: cosignPusher('oci-1-1'),
  },
]
