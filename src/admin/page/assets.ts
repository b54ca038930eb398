import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { packageFile } from '../../lib/package.ts'

/** A file that pages load. */
export interface Asset {
  readonly bytes: Uint8Array
  readonly contentType: string
  /** Its name with a hash of its content, so that browsers may keep it for ever. */
  readonly name: string
}

const FILES = [
  ['page.css', 'text/css; charset=utf-8'],
  ['page.js', 'text/javascript; charset=utf-8'],
  ['icon.svg', 'image/svg+xml'],
] as const

/** Name of a file in `web/`. */
export type AssetFile = (typeof FILES)[number][0]

/** The files in `web/`, which are read once. */
export class Assets {
  readonly #byName: ReadonlyMap<string, Asset>
  readonly #names: ReadonlyMap<AssetFile, string>

  private constructor(assets: readonly (readonly [AssetFile, Asset])[]) {
    this.#byName = new Map(assets.map(([, asset]) => [asset.name, asset]))
    this.#names = new Map(assets.map(([file, { name }]) => [file, name]))
  }

  /** Reads the files. */
  static async read(): Promise<Assets> {
    const read = FILES.map(async ([file, contentType]) => {
      const bytes = await readFile(packageFile('web', file))
      return [file, { bytes, contentType, name: hashedName(file, bytes) }] as const
    })
    return new Assets(await Promise.all(read))
  }

  find(name: string): Asset | undefined {
    return this.#byName.get(name)
  }

  /** The name under which a page loads a file. */
  nameOf(file: AssetFile): string {
    return this.#names.get(file) ?? file
  }
}

function hashedName(file: AssetFile, bytes: Uint8Array): string {
  const hash = createHash('sha256').update(bytes).digest('hex').slice(0, 12)
  return file.replace('.', `.${hash}.`)
}
