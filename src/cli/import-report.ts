import { countText, sizeText } from '../lib/words/amounts.ts'
import { revealed } from '../lib/words/hidden.ts'
import type { MigrationWitness, Survey } from '../migration/migration.ts'
import type { Omission } from '../migration/plan.ts'
import type { Tally } from '../migration/terms.ts'
import { LiveLines } from './admin/live-lines.ts'
import { Pace } from './admin/pace.ts'
import { barText } from './admin/text.ts'
import type { Environment } from './environment.ts'

/** Between two lines of progress where they cannot be overwritten. */
const PROGRESS_MS = 15_000
const BAR_WIDTH = 24

/**
 * Tells a person how an import goes: a line for each repository, then what is missing, then a summary. Names
 * and reasons come from the source, so hidden characters are shown.
 */
export class ImportReport implements MigrationWitness {
  readonly #environment: Environment
  readonly #isDryRun: boolean
  readonly #live: LiveLines
  readonly #pace = new Pace()
  readonly #sums = { repositories: 0, tags: 0, manifests: 0, blobs: 0, sentBytes: 0, omissions: 0 }
  #current = ''
  #survey: Survey = { repositories: 0, bytes: 0 }
  #begun = 0
  #doneBytes = 0
  #toldAtMs = performance.now()

  constructor(environment: Environment, { isDryRun }: { readonly isDryRun: boolean }) {
    this.#environment = environment
    this.#isDryRun = isDryRun
    this.#live = new LiveLines(environment.stdout)
  }

  surveying(title: string): void {
    this.#print(title)
    this.#live.show(['reading its repositories …'])
  }

  surveyed(survey: Survey): void {
    this.#survey = survey
    this.#print(`${countOf(survey.repositories, 'repository')}, ${sizeText(survey.bytes)} in blobs`)
    this.#pace.describe(0, survey.bytes)
  }

  began(name: string): void {
    this.#current = name
    this.#begun += 1
    this.#show()
  }

  progressed(doneBytes: number): void {
    this.#doneBytes = doneBytes
    this.#show()
  }

  ended(name: string, tally: Tally, omissions: readonly Omission[]): void {
    this.#sums.repositories += 1
    this.#sums.omissions += omissions.length
    for (const key of ['tags', 'manifests', 'blobs', 'sentBytes'] as const) this.#sums[key] += tally[key]
    const isRefused = omissions.some(({ what }) => what === '') && tally.manifests === 0
    if (!isRefused) this.#print(`${name}  ${isNothing(tally) ? 'nothing to import' : tallyText(tally)}`)
    for (const { what, why } of omissions)
      this.#print(what === '' ? `${name}  NOT IMPORTED: ${why}` : `  NOT IMPORTED: ${what}: ${why}`)
  }

  /** Prints the summary; `false` if anything was left out. */
  finish(): boolean {
    const { repositories, omissions } = this.#sums
    const verb = this.#isDryRun ? 'would import' : 'imported'
    this.#print(`${verb} ${tallyText(this.#sums)}, of ${countOf(repositories, 'repository')}`)
    if (omissions > 0)
      this.#print(
        `${countText(omissions, 'thing')} ${omissions === 1 ? 'is' : 'are'} not imported: see above`,
      )
    return omissions === 0
  }

  /** Prints why the import ended early. */
  stopped(why: string): void {
    this.#live.end()
    const isUnderWay = this.#begun > 0 && !this.#isDryRun
    const rest = isUnderWay ? `; ${tallyText(this.#sums)} are imported: run it again, and it goes on` : ''
    this.#environment.stderr.write(`entrepot: ${revealed(why)}${rest}\n`)
  }

  #print(line: string): void {
    this.#live.clear()
    this.#environment.stdout.write(`${revealed(line)}\n`)
    this.#toldAtMs = performance.now()
  }

  #show(): void {
    const { bytes, repositories } = this.#survey
    const part = bytes === 0 ? 1 : Math.min(1, this.#doneBytes / bytes)
    const pace = this.#pace.describe(this.#doneBytes, bytes)
    const line = `${barText(part, BAR_WIDTH)} ${Math.floor(part * 100)} %  ${this.#begun}/${repositories}  ${pace}`
    this.#live.show([revealed(`${line}  ${this.#current}`)])
    if (this.#live.isLive || performance.now() - this.#toldAtMs < PROGRESS_MS) return
    this.#print(line.trimEnd())
  }
}

function countOf(count: number, noun: 'repository'): string {
  return count === 1 ? `1 ${noun}` : `${count} repositories`
}

function tallyText({ tags, manifests, blobs, sentBytes }: Tally): string {
  const counts = [countText(tags, 'tag'), countText(manifests, 'manifest'), countText(blobs, 'blob')]
  return [...counts, sizeText(sentBytes)].join(', ')
}

function isNothing({ tags, manifests, blobs }: Tally): boolean {
  return tags + manifests + blobs === 0
}
