import { EXIT } from './environment.ts'
import type { Tool } from './tool.ts'

export const doctor: Tool = {
  usage: '[options]',
  description: '',
  flags: {},
  run: async () => EXIT.ok,
}
