import { CLOCK } from './clock.ts'
import { FAULTS, FEW_FILES, SICK_DISK } from './faults.ts'
import { DISK, WIRE } from './flips.ts'
import { HERDS } from './herd.ts'
import { KILL, KILL_CALLS, PAIR } from './kill.ts'
import { POWER, POWER_CONTROL } from './power.ts'
import { PUSH_KILL, PUSH_POWER, PUSH_POWER_CONTROL } from './push.ts'
import { REPLICAS } from './replicas.ts'
import type { Rig } from './rig.ts'
import { DRAIN, RELOAD } from './signals.ts'
import { SOAK } from './soak.ts'
import { DNS, NAMES } from './strangers.ts'

/** All rigs. */
export const RIGS: readonly Rig[] = [
  KILL,
  KILL_CALLS,
  POWER,
  POWER_CONTROL,
  PUSH_KILL,
  PUSH_POWER,
  PUSH_POWER_CONTROL,
  SOAK,
  PAIR,
  FAULTS,
  FEW_FILES,
  SICK_DISK,
  WIRE,
  DISK,
  CLOCK,
  ...HERDS,
  ...REPLICAS,
  DRAIN,
  RELOAD,
  NAMES,
  DNS,
]
