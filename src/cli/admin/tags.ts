import { ConfigError, type Problem } from '../../config/problem.ts'
import { agoText } from '../../lib/words/amounts.ts'
import { EXIT, type ExitCode } from '../environment.ts'
import { type AdminCall, adminTool } from './command.ts'
import { tableText } from './text.ts'

/** `entrepot tags <image> --history`: what a tag names, and every digest that it named before. */
export const tags = adminTool({
  usage: '<image> [--history] [options]',
  description: 'Show what a tag names here. With --history, show every move of the last 90 days.',
  flags: { history: { type: 'boolean', description: 'when the tag moved, where to, and who moved it' } },
  examples: [['tags alpine:3.20 --history', 'every digest that the tag had, and since when']],
  completes: 'images',
  run: async call => await show(call),
})

/** `entrepot tag <image> <digest>`: gives a tag a digest, where a mirrored one stays until `--follow`. */
export const tag = adminTool({
  usage: '<image> <digest> | <image> --follow [options]',
  description:
    'Roll a tag back to a digest that it had before, or to any other of its repository. A mirrored tag stays there, whatever its upstream says, and its image is pinned, until --follow.',
  flags: { follow: { type: 'boolean', description: 'let a mirrored tag follow its upstream again' } },
  examples: [
    ['tag team/app:v1 sha256:…', 'roll a tag back to a digest'],
    ['tag team/app:v1 --follow', 'let it follow its upstream again'],
  ],
  completes: 'images',
  run: async call => await (call.words.isOn('follow') ? follow(call) : move(call)),
})

async function show({ words, connection, isJson, print }: AdminCall): Promise<ExitCode> {
  const [image = '', ...more] = words.words
  if (image === '' || more.length > 0) throw usage('tags', 'needs one image')
  const report = await connection.ask('GET history', { image })
  if (isJson) {
    print(JSON.stringify(report))
    return EXIT.ok
  }
  const { digest, heldBy, moves } = report
  print(digest === undefined ? `${report.image} is not known here` : `${report.image} is ${digest}`)
  if (heldBy !== undefined)
    print(`fixed by ${heldBy}: it does not follow its upstream (entrepot tag ${report.image} --follow)`)
  if (!words.isOn('history')) return EXIT.ok
  const rows = moves.map(({ at, digest: named, by }) => [at, agoText(at, Date.now()), named ?? 'deleted', by])
  print(rows.length === 0 ? 'no move is known' : tableText([['SINCE', '', 'DIGEST', 'BY'], ...rows]))
  return EXIT.ok
}

async function move({ words, connection, isJson, print }: AdminCall): Promise<ExitCode> {
  const [image = '', digest = '', ...more] = words.words
  if (digest === '' || more.length > 0) throw usage('tag', 'needs an image and a digest, or --follow')
  const moved = await connection.ask('PUT tags', { image, digest })
  const before = moved.before === undefined ? '' : `, before: ${moved.before}`
  print(isJson ? JSON.stringify(moved) : `${moved.image} is ${moved.digest} now${before}`)
  return EXIT.ok
}

async function follow({ words, connection, isJson, print }: AdminCall): Promise<ExitCode> {
  const [image = '', ...more] = words.words
  if (image === '' || more.length > 0) throw usage('tag', 'needs one image beside --follow')
  const released = await connection.ask('DELETE tags', { image })
  print(isJson ? JSON.stringify(released) : `${released.image} follows its upstream again`)
  return EXIT.ok
}

function usage(path: string, message: string): ConfigError {
  const problem: Problem = {
    origin: { kind: 'command-line' },
    path,
    message,
    hint: `entrepot ${path} --help`,
  }
  return new ConfigError([problem])
}
