import type { Snippet } from '../admin/page/page-parts.ts'
import { NO_FILES } from '../cli/clients/host-files.ts'
import { parseMirrorUrl } from '../cli/clients/mirror-url.ts'
import { ConfigError } from '../config/problem.ts'
import { OciError } from '../oci/error.ts'

/** What `entrepot setup` prints for each client and this address. */
export async function snippetsFor(address: string): Promise<readonly Snippet[]> {
  const mirror = parseMirrorUrl(address)
  if (mirror === undefined)
    throw new OciError(
      'REQUEST_INVALID',
      `${address} is not the address of a mirror, such as http://mirror.example.com:8080, without a path`,
    )
  // The parsers of the files of clients take time to load, which only this page needs.
  const { PLANNED_CLIENTS } = await import('../cli/setup.ts')
  const snippets: Snippet[] = []
  for (const [client, plan] of PLANNED_CLIENTS) {
    try {
      const { files, notes } = await plan({ mirror, registries: 'all', caFile: undefined }, NO_FILES)
      snippets.push({ client, files: files.map(({ path, after }) => ({ path, text: after })), notes })
    } catch (error) {
      // Not every client can use every address.
      if (!(error instanceof ConfigError)) throw error
      snippets.push({ client, files: [], notes: error.problems.map(({ message }) => message) })
    }
  }
  return snippets
}
