import { agoText } from '../../lib/words/amounts.ts'
import { EXIT, type ExitCode } from '../environment.ts'
import { type AdminCall, adminTool, forEachWord } from './command.ts'
import { someImages } from './images.ts'
import { tableText } from './text.ts'

/** `entrepot pin [image]…`: protects images from eviction, or lists the pinned ones. */
export const pin = adminTool({
  usage: '[image]… [options]',
  description:
    'Protect images from eviction, even before they are cached. Without an image, list the pinned ones.',
  examples: [
    ['pin alpine:3.20 ghcr.io/owner/name', 'keep two images'],
    ['pin', 'list what is kept'],
  ],
  completes: 'images',
  run: async call => (call.words.words.length === 0 ? await list(call) : await change(call, 'PUT')),
})

/** `entrepot unpin <image>…`: allows eviction of images again. */
export const unpin = adminTool({
  usage: '<image>… [options]',
  description: 'Allow eviction of pinned images again.',
  examples: [['unpin alpine:3.20', 'let one image be evicted again']],
  completes: 'images',
  run: async call => await change(call, 'DELETE'),
})

async function list({ connection, isJson, print }: AdminCall): Promise<ExitCode> {
  const { pins } = await connection.ask('GET pins')
  if (isJson) for (const entry of pins) print(JSON.stringify(entry))
  else if (pins.length === 0) print('nothing is pinned')
  else {
    const rows = pins.map(({ image, pinnedAt }) => [image, agoText(pinnedAt, Date.now())])
    print(tableText([['IMAGE', 'PINNED'], ...rows]))
  }
  return EXIT.ok
}

async function change(call: AdminCall, method: 'PUT' | 'DELETE'): Promise<ExitCode> {
  const { words, connection, isJson, print } = call
  return await forEachWord(call, someImages(words), async image => {
    const answer = await connection.ask(`${method} pins`, { image })
    const verb = !('isNew' in answer) ? 'unpinned' : answer.isNew ? 'pinned' : 'already pinned'
    print(isJson ? JSON.stringify(answer) : `${verb} ${answer.image}`)
  })
}
