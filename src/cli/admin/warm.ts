import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { WarmedLayer } from '../../admin/contract.ts'
import { ConfigError, flagProblem } from '../../config/problem.ts'
import { countText, digestText, sizeText } from '../../lib/words/amounts.ts'
import { parsePlatform } from '../../oci/platform.ts'
import { EXIT, type ExitCode } from '../environment.ts'
import { type AdminCall, adminTool, forEachWord } from './command.ts'
import { requireImage, someImages } from './images.ts'
import { LiveLines } from './live-lines.ts'
import { Pace } from './pace.ts'
import { barText } from './text.ts'

/** `entrepot warm <image>…`: pulls images into the cache in advance. */
export const warm = adminTool({
  usage: '<image>… [--file LIST] [options]',
  description: 'Pull images into the cache. Exit code 1 if one of them is not completely cached afterwards.',
  flags: {
    platform: {
      type: 'list',
      value: 'OS/ARCH',
      description: 'platform to pull, such as linux/amd64; may be repeated; all platforms by default',
    },
    file: {
      type: 'text',
      value: 'LIST',
      description: 'file with one image on each line; # starts a comment',
    },
  },
  examples: [
    ['warm alpine:3.20 --platform linux/amd64', 'one image for one platform'],
    ['warm --file images.txt', 'all images of a list'],
  ],
  completes: 'images',
  run,
})

async function run(call: AdminCall): Promise<ExitCode> {
  const { words, environment } = call
  const platforms = words.list('platform')
  for (const platform of platforms) {
    if (parsePlatform(platform) === undefined)
      throw new ConfigError([
        flagProblem('platform', 'is not a platform', 'such as linux/amd64 or linux/arm64/v8'),
      ])
  }
  const file = words.text('file')
  const images =
    file === undefined
      ? someImages(words)
      : [...words.words.map(requireImage), ...(await readList(resolve(environment.cwd, file)))]
  let isWhole = true
  const code = await forEachWord(call, images, async image => {
    if (!(await warmOne(call, image, platforms))) isWhole = false
  })
  return isWhole ? code : EXIT.failure
}

async function readList(path: string): Promise<readonly string[]> {
  try {
    const lines = (await readFile(path, 'utf8')).split('\n').map(line => line.replace(/#.*/, '').trim())
    return lines.filter(line => line !== '').map(requireImage)
  } catch (error) {
    if (error instanceof ConfigError) throw error
    const { code } = error as NodeJS.ErrnoException
    throw new ConfigError([flagProblem('file', `cannot be read: ${code ?? 'unknown error'}`, undefined)])
  }
}

/** Warms one image; `false` if one of its layers failed. */
async function warmOne(call: AdminCall, image: string, platforms: readonly string[]): Promise<boolean> {
  const { connection, isJson, environment, print } = call
  const live = new LiveLines(environment.stdout)
  const layers = new Map<string, WarmedLayer>()
  const pace = new Pace()
  let failed = 0
  if (!isJson) print(image)
  try {
    for await (const told of connection.follow('POST warm', { image, platform: platforms })) {
      if (isJson) print(JSON.stringify(told))
      if (told.event === 'done') failed = told.failed
      if (told.event !== 'layer') continue
      layers.set(told.digest, told)
      if (!isJson) live.show([...[...layers.values()].map(layerLine), ...paceLines(layers, pace)])
    }
  } finally {
    live.end()
  }
  if (!isJson) {
    if (!live.isLive) for (const layer of layers.values()) print(layerLine(layer))
    print(summary([...layers.values()]))
  }
  return failed === 0
}

const STATES = {
  pulling: '',
  cached: 'already cached',
  pulled: 'done',
  failed: 'failed',
} as const satisfies Record<WarmedLayer['state'], string>

/** Speed and time left of all layers that are being pulled, together. */
function paceLines(layers: ReadonlyMap<string, WarmedLayer>, pace: Pace): readonly string[] {
  const pulled = [...layers.values()].filter(({ state }) => state !== 'cached')
  const sum = (read: (layer: WarmedLayer) => number): number =>
    pulled.reduce((all, layer) => all + read(layer), 0)
  const isOver = pulled.every(({ state }) => state !== 'pulling')
  const text = pace.describe(
    sum(({ doneBytes }) => doneBytes),
    sum(({ sizeBytes }) => sizeBytes),
  )
  return isOver || text === '' ? [] : [`  ${text}`]
}

function layerLine({ digest, sizeBytes, doneBytes, state, message }: WarmedLayer): string {
  const part = sizeBytes === 0 ? 1 : doneBytes / sizeBytes
  const note = message === undefined ? STATES[state] : `${STATES[state]}: ${message}`
  const size = sizeText(sizeBytes).padStart(9)
  return `  ${digestText(digest)}  ${barText(part, 24)} ${String(Math.floor(part * 100)).padStart(3)} %  ${size}  ${note}`.trimEnd()
}

function summary(layers: readonly WarmedLayer[]): string {
  const sumOf = (state: WarmedLayer['state']): number =>
    layers.filter(layer => layer.state === state).reduce((sum, layer) => sum + layer.sizeBytes, 0)
  const failed = layers.filter(({ state }) => state === 'failed').length
  const trouble = failed === 0 ? '' : `, ${countText(failed, 'layer')} failed`
  return `  pulled ${sizeText(sumOf('pulled'))}, ${sizeText(sumOf('cached'))} already cached${trouble}`
}
