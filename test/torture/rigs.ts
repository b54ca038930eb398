import { FAULTS, FEW_FILES, SICK_DISK } from './faults.ts'
import { KILL, KILL_CALLS, PAIR } from './kill.ts'
import type { Rig } from './rig.ts'

/** All rigs. */
export const RIGS: readonly Rig[] = [KILL, KILL_CALLS, PAIR, FAULTS, FEW_FILES, SICK_DISK]
