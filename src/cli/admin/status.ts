import { setTimeout as delay } from 'node:timers/promises'
import type { DaemonReport, RunningDownload } from '../../admin/contract.ts'
import { type Environment, EXIT } from '../environment.ts'
import { type AdminCall, adminTool } from './command.ts'
import { AdminError } from './connection.ts'
import { requireNoWords } from './images.ts'
import { statusLines } from './status-lines.ts'

/** Time between two reports of `--watch`, in milliseconds. */
const EVERY_MS = 2000

/** `entrepot status`: the health of the mirror, the size of the cache, registries and downloads. */
export const status = adminTool({
  usage: '[--watch] [options]',
  description:
    'Show whether the mirror is healthy and why not, how full the cache is, what it has saved, the state of each\nregistry, and current downloads.',
  flags: {
    watch: { type: 'boolean', description: 'show it again every two seconds, until Ctrl-C' },
  },
  examples: [
    ['status', 'is it healthy, and if not, why'],
    ['status --watch', 'the same, every two seconds'],
    ['status --json | jq .degraded', 'the reasons, for a script'],
  ],
  run: async call => {
    requireNoWords(call.words)
    if (!call.words.isOn('watch')) await show(call)
    else await watch(call)
    return EXIT.ok
  },
})

async function show(call: AdminCall): Promise<void> {
  for (const line of await linesOf(call)) call.print(line)
}

async function linesOf({ connection, isJson, paint }: AdminCall): Promise<readonly string[]> {
  const answer: DaemonReport = await connection.ask('GET status')
  const { flows }: { readonly flows: readonly RunningDownload[] } = await connection.ask('GET flows')
  if (isJson) return [JSON.stringify({ ...answer, flows })]
  return statusLines(answer, flows, { nowMs: Date.now(), paint })
}

/** Shows reports until the process is told to stop. A daemon that goes away is waited for. */
async function watch(call: AdminCall): Promise<void> {
  const { environment, isJson } = call
  using stop = stopOf(environment)
  await show(call)
  while (await isDue(stop.signal)) {
    const lines = await linesOf(call).catch((error: unknown) => {
      if (error instanceof AdminError) return [`entrepot: ${error.message}`]
      throw error
    })
    const isTerminal = environment.stdout.isTTY === true && !isJson
    // A terminal is cleared first, and written from its top left corner on.
    const before = isTerminal ? '\u001B[H\u001B[2J' : isJson ? '' : '\n'
    environment.stdout.write(`${before}${lines.join('\n')}\n`)
  }
}

async function isDue(signal: AbortSignal): Promise<boolean> {
  return await delay(EVERY_MS, true, { signal }).catch(() => false)
}

function stopOf({ signals }: Environment): { readonly signal: AbortSignal } & Disposable {
  const stopped = new AbortController()
  const stop = (): void => stopped.abort()
  for (const name of ['SIGINT', 'SIGTERM'] as const) signals.on(name, stop)
  return {
    signal: stopped.signal,
    [Symbol.dispose]: () => {
      for (const name of ['SIGINT', 'SIGTERM'] as const) signals.off(name, stop)
    },
  }
}
