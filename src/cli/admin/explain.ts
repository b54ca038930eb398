import type { ExplainedManifest, Explanation } from '../../admin/contract.ts'
import { agoText, countText, digestText, sizeText, spanText } from '../../lib/words/amounts.ts'
import { EXIT, type ExitCode } from '../environment.ts'
import { type AdminCall, adminTool } from './command.ts'
import { oneImage } from './images.ts'

/** `entrepot explain <image>`: an image in the cache, and why its last pull was a hit or a miss. */
export const explain = adminTool({
  usage: '<image> [options]',
  description:
    'Explain how much of an image is cached, how fresh it is, and why its last pull was a hit or a miss.',
  examples: [
    ['explain alpine:3.20', 'why its last pull was a hit or a miss'],
    ['explain 3f2a90c1d2e4', 'an image by a digest as ls prints it'],
    ['explain alpine:3.20 --as alice', 'which row of the rules lets alice pull it'],
  ],
  flags: {
    as: { type: 'text', value: 'NAME', description: 'say what this identity may do, and which row says so' },
  },
  completes: 'images',
  run,
})

async function run({ words, connection, isJson, print }: AdminCall): Promise<ExitCode> {
  const answer = await connection.ask('GET explain', { image: oneImage(words), as: words.text('as') })
  if (isJson) print(JSON.stringify(answer))
  else for (const line of lines(answer, Date.now())) print(line)
  return EXIT.ok
}

function lines(answer: Explanation, nowMs: number): readonly string[] {
  const { image, extent, manifest, isPinned, lastPull, nextPull, trouble } = answer
  const cached =
    extent === undefined
      ? 'nothing'
      : `${sizeText(extent.cachedBytes)}, ${extent.isWhole ? 'whole' : `${sizeText(extent.missingBytes)} known to be missing`}`
  return [
    `${image}${isPinned ? '  (pinned)' : ''}`,
    ...claimLines(answer),
    `cached     ${cached}`,
    ...accessLines(answer),
    ...tagLines(answer),
    ...(answer.lastUse === undefined
      ? []
      : [`used       ${agoText(answer.lastUse, nowMs)}, ${countText(answer.hits ?? 0, 'hit')}`]),
    `last pull  ${lastPull === undefined ? 'none since the daemon started' : `${agoText(lastPull.at, nowMs)}: ${lastPull.outcome ?? lastPull.status}, because ${lastPull.why ?? 'of an error'}`}`,
    `next pull  ${nextPull.outcome}: ${nextPull.why}`,
    ...(trouble === undefined ? [] : [`upstream   in trouble: ${trouble}`]),
    ...(manifest === undefined ? [] : manifestLines(manifest, '')),
  ]
}

function accessLines({ access }: Explanation): readonly string[] {
  if (access === undefined) return []
  const { as, groups, decisions } = access
  const who = groups.length === 0 ? as : `${as} (${groups.join(', ')})`
  return [
    `as         ${who}`,
    ...decisions.map(({ right, isAllowed, row, reason }) => {
      const why = reason === undefined ? '' : `: ${reason}`
      return `  ${right.padEnd(8)} ${isAllowed ? 'yes' : 'no'}, by ${row === 'token' ? 'its token' : `the rules, ${row}`}${why}`
    }),
  ]
}

function claimLines({ claim }: Explanation): readonly string[] {
  if (claim === undefined) return []
  const { names, fallback, others, isClosed, isHere } = claim
  const state = isClosed
    ? `${isHere ? 'pushed here' : 'never pushed'}; no registry is asked`
    : `no push yet; mirrored from ${fallback ?? 'nowhere'} until the first one`
  const more = others.length === 0 ? '' : `, before ${others.join(', ')}`
  return [`claim      ${names}${more}: ${state}`]
}

function tagLines({ tag }: Explanation): readonly string[] {
  if (tag === undefined) return []
  const { ageMs, freshness, freshForMs, usableForMs } = tag
  const { lostForMs } = tag
  if (lostForMs !== undefined && freshness !== 'expired')
    return [
      `tag        deleted by its upstream ${spanText(lostForMs)} ago: served for another ${spanText(usableForMs)}`,
    ]
  const confirmed = `confirmed ${spanText(ageMs)}${ageMs < 1000 ? '' : ' ago'}`
  switch (freshness) {
    case 'fresh':
      return [`tag        fresh: ${confirmed}, served without asking for another ${spanText(freshForMs)}`]
    case 'stale':
      return [
        `tag        due: ${confirmed}; if the upstream fails it serves for another ${spanText(usableForMs)}`,
      ]
    case 'expired':
      return [`tag        expired: ${confirmed}`]
    default:
      return freshness satisfies never
  }
}

function manifestLines(manifest: ExplainedManifest, indent: string): readonly string[] {
  const { digest, platform, isCached, blobs, manifests } = manifest
  const kind = manifests.length > 0 ? 'index' : 'manifest'
  const head = `${indent}${mark(isCached)} ${kind} ${digestText(digest)}${platform === undefined || platform === '' ? '' : `  ${platform}`}`
  return [
    head,
    ...blobs.map(
      blob =>
        `${indent}  ${mark(blob.isCached)} blob ${digestText(blob.digest)}  ${sizeText(blob.sizeBytes)}`,
    ),
    ...manifests.flatMap(child => manifestLines(child, `${indent}  `)),
  ]
}

function mark(isCached: boolean): string {
  return isCached ? '●' : '○'
}
