import { Counter, Gauge, type Registry } from 'prom-client'

/** Returns functions that declare counters and gauges in a registry, with the prefix `entrepot_`. */
export function declareIn(registry: Registry): {
  counter: <L extends string>(name: string, help: string, labelNames?: readonly L[]) => Counter<L>
  gauge: <L extends string>(name: string, help: string, labelNames?: readonly L[]) => Gauge<L>
} {
  return {
    counter: (name, help, labelNames = []) =>
      new Counter({ name: `entrepot_${name}`, help, labelNames, registers: [registry] }),
    gauge: (name, help, labelNames = []) =>
      new Gauge({ name: `entrepot_${name}`, help, labelNames, registers: [registry] }),
  }
}
