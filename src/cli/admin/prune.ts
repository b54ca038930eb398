import { adminTool } from './command.ts'
import { selectionOf } from './ls.ts'
import { removeMatching, unusedMsOf } from './rm.ts'

const UNUSED_DEFAULT = '7d'
const UNUSED_DEFAULT_MS = 7 * 24 * 3_600_000

/** `entrepot prune [pattern]…`: removes images that no tag leads to. */
export const prune = adminTool({
  usage: '[pattern]… [options]',
  description:
    'Remove images that no tag leads to any more, because their tags have moved, and that nobody has pulled by\ndigest lately; with all content that no other cached image needs. Pinned images stay.',
  flags: {
    registry: { type: 'text', value: 'NAME', description: 'only images of this registry, such as ghcr.io' },
    'unused-for': {
      type: 'text',
      value: 'TIME',
      description: `only images that nobody has pulled for this long; ${UNUSED_DEFAULT} by default`,
    },
    'dry-run': { type: 'boolean', description: 'remove nothing, and print what would be removed' },
  },
  examples: [
    ['prune --dry-run', 'what would be removed'],
    ['prune ghcr.io/owner --unused-for 1d', 'old digests of one owner'],
  ],
  run: async call => {
    const unusedMs = unusedMsOf(call.words) ?? UNUSED_DEFAULT_MS
    const selection = { ...selectionOf(call.words), untagged: 'true', unused: String(unusedMs) }
    return await removeMatching(call, selection)
  },
})
