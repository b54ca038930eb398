import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { ROOT, runOk } from '../../packaging/rig/tools.ts'

/** The directory of the chart. */
export const CHART_DIRECTORY = join(ROOT, 'helm/entrepot')

/** A file of values, by the name that a release of it gets in the tests. */
export interface ValuesFile {
  readonly name: string
  readonly path: string
}

/** Every file of values that this repository has: those of the chart's own tests and the examples. */
export async function valuesFiles(): Promise<readonly ValuesFile[]> {
  const own = join(CHART_DIRECTORY, 'ci')
  const examples = join(ROOT, 'examples/kubernetes')
  const ofTests = (await readdir(own)).map(file => ({
    name: file.replace('-values.yaml', ''),
    path: join(own, file),
  }))
  const usual = (await readdir(examples))
    .filter(file => file.endsWith('.yaml'))
    .map(file => ({ name: `example-${file.replace('.yaml', '')}`, path: join(examples, file) }))
  return [...ofTests, ...usual]
}

/**
 * Writes the chart of the version before into a directory and returns its path: that of the newest tag, or,
 * before there is one, of the commit that last changed the chart's version.
 */
export async function earlierChart(directory: string): Promise<string> {
  const tags = (await runOk(['git', 'tag', '--merged', 'HEAD', '--sort=-creatordate'])).split('\n')
  const [tag = ''] = tags
  const commit = await runOk(['git', 'rev-list', '-n', '1', 'HEAD', '--', 'helm/entrepot/Chart.yaml'])
  const archive = join(directory, 'earlier-chart.tar')
  await runOk(['git', 'archive', '--output', archive, tag === '' ? commit.trim() : tag, 'helm/entrepot'])
  await runOk(['tar', '-xf', archive, '-C', directory])
  return join(directory, 'helm/entrepot')
}
