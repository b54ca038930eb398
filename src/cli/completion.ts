import { FLAGS, SETTINGS, type SettingSource } from '../config/settings.ts'
import { AdminError, connect } from './admin/connection.ts'
import { type Environment, EXIT } from './environment.ts'
import type { Tool, ToolFlag, ToolWords } from './tool.ts'

const SHELLS = ['bash', 'zsh', 'fish'] as const

/** `entrepot completion <shell>`: prints the script by which a shell completes command lines. */
export const completion: Tool = {
  usage: `<${SHELLS.join(' | ')}>`,
  description:
    'Print the completion of a shell: commands, flags, and the names of cached images of the mirror that\nENTREPOT_ADMIN names.',
  flags: {},
  examples: [
    ['completion bash > /etc/bash_completion.d/entrepot', 'for all users of bash'],
    ['completion zsh > "${fpath[1]}/_entrepot"', 'for zsh'],
    ['completion fish > ~/.config/fish/completions/entrepot.fish', 'for fish'],
  ],
  completes: SHELLS,
  run: async ({ stdout, stderr }, { words }) => {
    const [name = '', ...more] = words
    const shell = SHELLS.find(known => known === name)
    if (shell === undefined || more.length > 0) {
      stderr.write(`entrepot: completion needs one of ${SHELLS.join(', ')}\n`)
      return await Promise.resolve(EXIT.configuration)
    }
    stdout.write(SCRIPTS[shell])
    return await Promise.resolve(EXIT.ok)
  },
}

/**
 * Each script passes the words of the line, the unfinished one last, to `entrepot complete`, and offers what
 * it prints: a candidate on each line, with its description after a tab.
 */
const SCRIPTS: Readonly<Record<(typeof SHELLS)[number], string>> = {
  // Bash splits words at colons, which names of images have. So the line is split at blanks here, and what
  // stands before the last colon is taken off the candidates.
  bash: `_entrepot() {
  local line=\${COMP_LINE:0:COMP_POINT} current reply
  local -a words
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=('')
  current=\${words[-1]}
  COMPREPLY=()
  while IFS=$'\\t' read -r reply _; do
    COMPREPLY+=("$reply")
  done < <(entrepot complete "\${words[@]:1}" 2>/dev/null)
  if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
    COMPREPLY=("\${COMPREPLY[@]#"\${current%"\${current##*:}"}"}")
  fi
}
complete -F _entrepot entrepot
`,
  zsh: `#compdef entrepot
_entrepot() {
  local -a lines values shown
  local line
  lines=("\${(@f)$(entrepot complete "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  for line in $lines; do
    values+=("\${line%%$'\\t'*}")
    shown+=("\${line/$'\\t'/  -- }")
  done
  (( $#values )) && compadd -l -d shown -a values
}
if [ "$funcstack[1]" = _entrepot ]; then _entrepot "$@"; else compdef _entrepot entrepot; fi
`,
  fish: `complete -c entrepot -f -a '(entrepot complete (commandline -opc)[2..] (commandline -ct))'
`,
}

/** A word that may stand in the place of the unfinished one. */
interface Candidate {
  readonly word: string
  readonly description: string
}

/** What completion knows of the command line. */
export interface Vocabulary {
  readonly tools: ReadonlyMap<string, Tool>
  /** Commands with the settings of a mirror. */
  readonly commands: readonly string[]
  readonly stores: readonly string[]
}

/** Prints the candidates for the last of these words. Prints nothing rather than to fail. */
export async function complete(
  environment: Environment,
  vocabulary: Vocabulary,
  words: readonly string[],
): Promise<void> {
  const unfinished = words.at(-1) ?? ''
  const found = await candidatesFor(environment, vocabulary, words)
  for (const { word, description } of found)
    if (word.startsWith(unfinished))
      environment.stdout.write(description === '' ? `${word}\n` : `${word}\t${description}\n`)
}

async function candidatesFor(
  environment: Environment,
  { tools, commands, stores }: Vocabulary,
  words: readonly string[],
): Promise<readonly Candidate[]> {
  const [unfinished = '', before = ''] = words.toReversed()
  const [first = ''] = words
  const names = [...tools.keys(), ...commands, 'help']
  const ownTool = tools.get(first)
  const tool = words.length > 1 ? ownTool : undefined
  const values = tool === undefined ? undefined : tool.flags[before.replace(/^--/, '')]?.values
  if (values !== undefined && before.startsWith('--')) return values.map(plain)
  if (unfinished.startsWith('-')) return tool === undefined ? settingFlags() : toolFlags(tool)
  if (words.length <= 1) return [...names.map(name => named(name, tools.get(name))), ...stores.map(plain)]
  if (first === 'help') return names.map(name => named(name, tools.get(name)))
  if (tool?.completes === 'images') return (await imageNames(environment, unfinished)).map(plain)
  if (tool !== undefined) return (tool.completes ?? []).map(plain)
  return commands.includes(first) ? stores.map(plain) : []
}

function plain(word: string): Candidate {
  return { word, description: '' }
}

function named(word: string, tool: Tool | undefined): Candidate {
  return { word, description: tool === undefined ? '' : firstSentence(tool.description) }
}

function firstSentence(text: string): string {
  const [sentence = ''] = text.replaceAll('\n', ' ').split(/[.:](?: |$)/)
  return sentence
}

function toolFlags({ flags }: Tool): readonly Candidate[] {
  const entries: [string, Pick<ToolFlag, 'description'>][] = Object.entries(flags)
  return [...entries, ['help', { description: 'explain the command' }] as const].map(
    ([flag, { description }]) => ({
      word: `--${flag}`,
      description,
    }),
  )
}

function settingFlags(): readonly Candidate[] {
  const settings: ReadonlyMap<string, SettingSource> = new Map(Object.entries(SETTINGS))
  const flags = FLAGS.map(flag => ({
    word: `--${flag}`,
    description: settings.get(flag)?.description ?? '',
  }))
  return [...flags, plain('--help'), plain('--version')]
}

const IMAGES_MAX = 200

/** Names of cached images that begin like this; none if the daemon does not answer. */
async function imageNames(environment: Environment, start: string): Promise<readonly string[]> {
  const noWords: ToolWords = { words: [], text: () => undefined, list: () => [], isOn: () => false }
  try {
    const connection = await connect(environment, noWords)
    const { images } = await connection.ask('GET images', {
      pattern: `${start}*`,
      limit: String(IMAGES_MAX),
    })
    return images.flatMap(({ image }) => spellingsOf(image)).filter(name => name.startsWith(start))
  } catch (error) {
    if (error instanceof AdminError) return []
    throw error
  }
}

/** A name as it is listed, and as people write images of Docker Hub. */
function spellingsOf(image: string): readonly string[] {
  const short = /^docker\.io\/(?:library\/)?(.*)$/.exec(image)?.[1]
  return short === undefined ? [image] : [image, short]
}
