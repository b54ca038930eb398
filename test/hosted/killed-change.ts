import { type ChangeKind, type ChangePlace, openChanges } from './change-rig.ts'

/** One change of a process that dies in the middle of it. */
export interface KilledChange {
  readonly place: ChangePlace
  readonly kind: ChangeKind
  /** Before anything is written of the change, or when it is durable and nobody was told yet. */
  readonly dies: 'before' | 'after'
}

/** Makes a change as its argument says, and dies of SIGKILL in it. */
async function main({ place, kind, dies }: KilledChange): Promise<void> {
  const die = (): void => void process.kill(process.pid, 'SIGKILL')
  const changes = await openChanges(place, {
    through: witness => ({
      announced: async acts => {
        await witness.announced?.(acts)
        if (dies === 'before') die()
      },
      beside: async act => (await witness.beside?.(act)) ?? [],
      saw: async act => {
        // The manifest is seen first, when its tag is durable too.
        if (dies === 'after') die()
        await witness.saw(act)
      },
    }),
  })
  await changes.change(kind)
}

await main(JSON.parse(process.argv[2] ?? '') as KilledChange)
