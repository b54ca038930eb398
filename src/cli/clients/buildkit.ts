import type { HostFiles, Plan, PlannedFile, Wish } from './client.ts'
import { namedRegistries } from './client.ts'
import { appendToml, parseToml, quoted, stringsOf, tableAt } from './toml.ts'

export const BUILDKITD_TOML = '/etc/buildkit/buildkitd.toml'

/** BuildKit: a table for each registry in `buildkitd.toml`, and one for the connection to the mirror. */
export async function planBuildkit(wish: Wish, files: HostFiles): Promise<Plan> {
  const notes = [
    'buildkitd reads the file when it starts; `docker buildx create --buildkitd-config buildkitd.toml` creates a builder with it. ' +
      'The builder inside dockerd uses daemon.json instead: see `entrepot setup docker`.',
    ...(wish.registries === 'all'
      ? [
          'This format cannot express "every registry": the file lists the well-known public ones. Add others with --namespace.',
        ]
      : []),
  ]
  if (wish.login !== undefined)
    notes.push('BuildKit sends no login to a mirror: use a client certificate, or let the anonymous pull.')
  return { files: [await planFile(wish, files)], notes }
}

async function planFile(wish: Wish, files: HostFiles): Promise<PlannedFile> {
  const path = BUILDKITD_TOML
  const before = await files.read(path)
  const parsed = parseToml(before ?? '') ?? {}
  const names = namedRegistries(wish)
  const isMissing = (name: string): boolean =>
    stringsOf(tableAt(parsed, 'registry', name)?.['mirrors'])[0] !== wish.mirror.authority
  const blocks = names.filter(isMissing).map(name => registryTable(wish, name))
  const isSpoken = tableAt(parsed, 'registry', wish.mirror.authority) !== undefined
  const spoken = isSpoken ? [] : mirrorTable(wish)
  const wanted = [...blocks, ...spoken]
  if (wanted.length === 0 && before !== undefined) return { path, before, after: before }
  const after = appendToml(before, wanted.join('\n'))
  if (after !== undefined) return { path, before, after }
  const whole = [...names.map(name => registryTable(wish, name)), ...mirrorTable(wish)].join('\n')
  return {
    path,
    before,
    after: whole,
    refusal: 'it has other mirrors for one of these registries, or is not valid TOML',
  }
}

function registryTable({ mirror }: Wish, name: string): string {
  return `[registry.${quoted(name)}]\n  mirrors = [${quoted(mirror.authority)}]\n`
}

function mirrorTable({ mirror, caFile, certificate }: Wish): string[] {
  const head = `[registry.${quoted(mirror.authority)}]\n`
  if (mirror.scheme === 'http') return [`${head}  http = true\n`]
  const ca = caFile === undefined ? '' : `  ca = [${quoted(caFile)}]\n`
  const pair =
    certificate === undefined
      ? ''
      : `  [[registry.${quoted(mirror.authority)}.keypair]]\n    key = ${quoted(certificate.keyFile)}\n    cert = ${quoted(certificate.certFile)}\n`
  return ca === '' && pair === '' ? [] : [`${head}${ca}${pair}`]
}
