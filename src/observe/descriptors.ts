/** What an operator does about a process that ran out of file descriptors. */
export const DESCRIPTORS_REMEDY =
  'raise its limit: LimitNOFILE= in a unit, --ulimit nofile= with Docker, ulimit -n in a shell'

/** Causes of an error that are looked at. */
const DEPTH_MAX = 8

/** True if an error came of a process, or a machine, that has as many files open as it may. */
export function lacksDescriptors(error: unknown): boolean {
  for (
    let current = error, depth = 0;
    current instanceof Error && depth < DEPTH_MAX;
    current = current.cause, depth += 1
  ) {
    if ('code' in current && (current.code === 'EMFILE' || current.code === 'ENFILE')) return true
  }
  return false
}
