import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { describe, test } from 'node:test'
import { runCommandLine } from '../cli/rig.ts'
import { startHosted } from '../support/hosted.ts'
import { Child, runOk } from './rig/child.ts'
import { GO_BIN } from './rig/clients/containerd.ts'
import { buildImage, type Image } from './rig/image.ts'
import { writeLayout } from './rig/layout.ts'
import { freePort } from './rig/ports.ts'
import { isMissing, skipFor } from './rig/requirements.ts'

/** Distribution 2.8 as Debian has it, and 3 as it is built from source. */
const REGISTRIES = ['docker-registry', join(GO_BIN, 'registry')]
const SKOPEO = ['skopeo', '--insecure-policy'] as const
const PREFIX = 'registry.example.com'

/** Runs a registry on a directory until everything is pushed. */
async function fill(program: string, directory: string, images: ReadonlyMap<string, Image>): Promise<string> {
  const [root, port, file] = [join(directory, 'registry'), await freePort(), join(directory, 'registry.yml')]
  const storage = { filesystem: { rootdirectory: root } }
  const http = { addr: `127.0.0.1:${port}`, secret: 'test' }
  // JSON is YAML.
  await writeFile(file, JSON.stringify({ version: '0.1', log: { level: 'warn' }, storage, http }))
  await using registry = new Child(program, [program, 'serve', file])
  await registry.ready(async () => (await fetch(`http://127.0.0.1:${port}/v2/`)).status === 200)
  for (const [name, image] of images) {
    const layout = join(directory, name.replaceAll(/[/:]/g, '-'))
    await writeLayout(layout, 'image', image)
    const to = `docker://127.0.0.1:${port}/${name}`
    await runOk([...SKOPEO, 'copy', '--all', '--dest-tls-verify=false', `oci:${layout}:image`, to])
  }
  return root
}

describe('a real Distribution registry is imported', () => {
  for (const program of REGISTRIES) {
    const skip = skipFor([program, 'skopeo'].filter(isMissing))
    test(`skopeo pulls from the mirror what it has pushed to ${basename(program)}`, { skip }, async t => {
      const directory = await mkdtemp(join(tmpdir(), 'entrepot-import-'))
      t.after(async () => await rm(directory, { recursive: true, force: true }))
      const both = ['amd64', 'arm64']
      const images = new Map([
        [
          'team/app:v1',
          buildImage({ greeting: 'one', types: 'oci', architectures: both, layerBytes: [300_000] }),
        ],
        [
          'team/app:v2',
          buildImage({ greeting: 'two', types: 'oci', architectures: ['amd64'], layerBytes: [1] }),
        ],
        [
          'web/a/b:latest',
          buildImage({ greeting: 'three', types: 'oci', architectures: both, layerBytes: [] }),
        ],
      ])
      const root = await fill(program, directory, images)
      await using hosted = await startHosted({ claims: { [`${PREFIX}/**`]: undefined } })
      const argv = ['import', root, '--registry', `http://${hosted.address}`, '--prefix', PREFIX]
      const dry = await runCommandLine([...argv, '--dry-run'])
      assert.equal(dry.code, 0, dry.stdout + dry.stderr)
      const ran = await runCommandLine(argv)
      assert.equal(ran.code, 0, ran.stdout + ran.stderr)
      assert.match(ran.stdout, /imported 3 tags, 7 manifests, .*, of 2 repositories\n$/)
      for (const [name, image] of images) {
        const from = `docker://${hosted.address}/${PREFIX}/${name}`
        const stdout = await runOk([...SKOPEO, 'inspect', '--tls-verify=false', '--raw', from])
        assert.equal(`sha256:${createHash('sha256').update(stdout).digest('hex')}`, image.root.digest)
        const to = `dir:${join(directory, `pulled-${name.replaceAll(/[/:]/g, '-')}`)}`
        await runOk([...SKOPEO, 'copy', '--all', '--src-tls-verify=false', from, to])
      }
      const again = await runCommandLine(argv)
      assert.match(again.stdout, /imported 0 tags, 0 manifests, 0 blobs, 0 B, of 2 repositories\n$/)
    })
  }
})
