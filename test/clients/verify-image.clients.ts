import assert from 'node:assert/strict'
import { chmod, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { run } from './rig/child.ts'
import { Containerd, containerd24, NEWEST_CONTAINERD } from './rig/clients/containerd.ts'
import { type CriImages, connectCri } from './rig/clients/cri.ts'
import { buildImage } from './rig/image.ts'
import { lackingFor, lackingForRig, skipFor } from './rig/requirements.ts'
import { World } from './rig/world.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const RULES = `admission:
  default: deny
  allow: [ghcr.io/team]
  deny: [{names: ghcr.io/team/old, reason: it is too old}]
`
const lacking = [...lackingForRig(), ...lackingFor(containerd24)]

describe('containerd 2.4 asks verify-image before it pulls', { skip: skipFor(lacking) }, () => {
  const stack = new AsyncDisposableStack()
  let world: World
  let daemon: Containerd
  let images: CriImages
  let rules: string
  let script: string

  before(async () => {
    world = stack.use(await World.open())
    const directory = await world.room.makeDirectory('verify-image')
    const bin = await world.room.makeDirectory('verify-image/bin')
    rules = join(directory, 'admission.yaml')
    await writeFile(rules, RULES)
    script = join(bin, 'entrepot')
    const command = `exec ${process.execPath} ${MAIN} verify-image --file ${rules} "$@"`
    await writeFile(script, `#!/bin/sh\n${command}\n`)
    await chmod(script, 0o755)
    ;({ daemon, images } = await start('verified', bin))
    for (const name of ['app', 'old']) await push(`ghcr.io/team/${name}:1`)
    await push('ghcr.io/other/app:1')
  })

  after(async () => {
    await stack.disposeAsync()
  })

  const start = async (
    name: string,
    bin: string,
    more = '',
  ): Promise<{ readonly daemon: Containerd; readonly images: CriImages }> => {
    const plugin = `[plugins.'io.containerd.image-verifier.v1.bindir']\n  bin_dir = "${bin}"\n`
    const configure = (...places: readonly [string, string, string]): string => {
      const text = NEWEST_CONTAINERD.configure(...places)
      return `${text.replace('  snapshotter = "native"\n', line => `${line}${more}`)}${plugin}`
    }
    const release = { ...NEWEST_CONTAINERD, configure }
    const started = await Containerd.start(world, { mirror: undefined, name, release })
    stack.defer(async () => await started.stop())
    const connected = await connectCri(started.socket)
    stack.defer(() => connected.close())
    return { daemon: started, images: connected }
  }

  const push = async (name: string): Promise<void> => {
    const options = { types: 'oci', architectures: ['amd64'], layerBytes: [50_000] } as const
    await world.push(name, buildImage({ greeting: name, ...options }))
  }

  test('an allowed image is pulled, and is there', async () => {
    await images.pullImage('ghcr.io/team/app:1')
    await images.removeImage('ghcr.io/team/app:1')
  })

  for (const [image, reason] of [
    ['ghcr.io/team/old:1', 'it is too old'],
    ['ghcr.io/other/app:1', 'no rule allows it'],
  ] as const) {
    test(`${image} is refused with the reason, and no layer of it is fetched`, async () => {
      const mark = world.front.log.length
      await assert.rejects(images.pullImage(image), new RegExp(`image "${image}" is refused: ${reason}`))
      const asked = world.front.log.slice(mark).map(({ path }) => path)
      assert.deepEqual(
        asked.filter(path => path.includes('/blobs/')),
        [],
      )
    })
  }

  test('ctr is refused too, as the pull goes through the same service', async () => {
    const argv = ['--address', daemon.socket, '--namespace', 'k8s.io', 'images', 'pull', '--hosts-dir']
    const pull = [...argv, daemon.hostsDirectory, 'ghcr.io/team/old:1']
    const { code, stderr } = await run(world.room.inside([NEWEST_CONTAINERD.ctr, ...pull]))
    assert.notEqual(code, 0)
    assert.match(stderr, /it is too old/)
  })

  test('a containerd that is set to pull by the CRI plugin itself asks no verifier', async () => {
    const local = await start('local', dirname(script), '  use_local_image_pull = true\n')
    await local.images.pullImage('ghcr.io/team/old:1')
  })

  test('without rules that can be read every pull is blocked, and the message names the file', async () => {
    await rm(rules)
    await assert.rejects(images.pullImage('ghcr.io/team/app:1'), /admission\.yaml: cannot be read/)
    await writeFile(rules, RULES.replace('default', 'mode: warn\n  default'))
    await images.pullImage('ghcr.io/team/old:1')
  })
})
