import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Programs that the benchmark runs, with their Debian packages. */
const PROGRAMS = {
  wrk: 'wrk',
  nginx: 'nginx',
  'docker-registry': 'docker-registry',
  taskset: 'util-linux',
  setpriv: 'util-linux',
  sync: 'coreutils',
  openssl: 'openssl',
  radosgw: 'radosgw',
  'radosgw-admin': 'radosgw',
  'ceph-mon': 'ceph-mon',
  'ceph-osd': 'ceph-osd',
  ceph: 'ceph-common',
  'ceph-authtool': 'ceph-common',
  monmaptool: 'ceph-base',
} as const

export type Program = keyof typeof PROGRAMS

/** Programs that every case needs. */
export const BASIC_PROGRAMS: readonly Program[] = [
  'wrk',
  'nginx',
  'docker-registry',
  'taskset',
  'setpriv',
  'sync',
]

/** Programs that a case with a bucket needs. */
export const BUCKET_PROGRAMS: readonly Program[] = [
  'radosgw',
  'radosgw-admin',
  'ceph-mon',
  'ceph-osd',
  'ceph',
  'ceph-authtool',
  'monmaptool',
]

/** Throws, naming the packages, if a program is not installed. */
export function requirePrograms(programs: readonly Program[], path: string): void {
  const directories = path.split(delimiter)
  const lacking = programs.filter(program => !directories.some(one => isProgram(join(one, program))))
  const packages = [...new Set(lacking.map(program => PROGRAMS[program]))]
  if (lacking.length > 0)
    throw new Error(`${lacking.join(', ')} not found: install Debian's ${packages.join(', ')}`)
}

/** The path of a program that is not required; `undefined` if it is in none of the search paths. */
export function findProgram(program: string, paths: readonly string[]): string | undefined {
  const directories = paths.flatMap(path => path.split(delimiter)).filter(path => path !== '')
  return directories.map(directory => join(directory, program)).find(isProgram)
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
