import { createAdmissionMetrics } from '../../admission/admission-metrics.ts'
import { ImageJudge } from '../../admission/judge.ts'
import { openGate } from '../../admission/open-gate.ts'
import { loadAdmission } from '../../config/file/admission.ts'
import { systemClock } from '../../lib/clock.ts'
import type { AdmissionRules } from '../../oci/rules/admission-rules.ts'
import { type Environment, EXIT, type ExitCode } from '../environment.ts'
import type { Tool } from '../tool.ts'
import { type AdmissionOptions, DEFAULT_GATE_LISTEN, readAdmissionOptions } from './admission-options.ts'
import { loadGateCertificate } from './gate-certificate.ts'
import { LOGGING_FLAGS, openCommandLog } from './logging.ts'
import { Reloading } from './reloading.ts'
import { StopSignals } from './stop-signals.ts'

/** `entrepot admission`: the gate of a Kubernetes cluster, a validating webhook. */
export const admission: Tool = {
  usage: '--upstream-config-file FILE (--tls-cert FILE --tls-key FILE | --self-signed DIR) [options]',
  description:
    'Answer the API server of a Kubernetes cluster whether a Pod may use its images, by the section admission of\nthe upstream file. The file and the certificate are read again when they change.',
  flags: {
    listen: {
      type: 'text',
      value: 'ADDRESS',
      description: `address for TLS, by default ${DEFAULT_GATE_LISTEN}`,
    },
    'upstream-config-file': {
      type: 'text',
      value: 'FILE',
      description: 'file with the section admission; other sections are ignored (required)',
    },
    'tls-cert': { type: 'text', value: 'FILE', description: 'certificate and its intermediates, in PEM' },
    'tls-key': { type: 'text', value: 'FILE', description: 'key of --tls-cert, in PEM' },
    'self-signed': {
      type: 'text',
      value: 'DIR',
      description: 'make a CA (ca.crt, for caBundle) and a certificate in this directory instead',
    },
    name: {
      type: 'list',
      value: 'NAME',
      description: 'with --self-signed: a name of the Service, such as gate.ns.svc; may be repeated',
    },
    'rewrite-to': {
      type: 'text',
      value: 'HOST',
      description: 'rewrite images to names of this mirror, at /mutate; docs/admission.md has the dangers',
    },
    rewrite: {
      type: 'list',
      value: 'REGISTRIES',
      description: 'with --rewrite-to: registries whose images are rewritten, with commas; all by default',
    },
    'drain-delay': {
      type: 'text',
      value: 'TIME',
      description: 'time to answer on after SIGTERM, with 503 at /readyz; 0s by default',
    },
    ...LOGGING_FLAGS,
  },
  examples: [
    [
      'admission --upstream-config-file gate.yaml --tls-cert tls.crt --tls-key tls.key',
      'answer reviews at port 8443, /validate',
    ],
    [
      'admission --upstream-config-file gate.yaml --self-signed /tmp/gate --name gate.default.svc',
      'the same, with a certificate of its own',
    ],
  ],
  run: async (environment, words) => {
    const options = readAdmissionOptions(environment, words)
    try {
      return await run(environment, options)
    } catch (error) {
      const isListen = error instanceof Error && 'syscall' in error && error.syscall === 'listen'
      if (!isListen) throw error
      environment.stderr.write(`entrepot: cannot listen: ${error.message} (choose another with --listen)\n`)
      return EXIT.failure
    }
  },
}

async function run(environment: Environment, options: AdmissionOptions): Promise<ExitCode> {
  using signals = new StopSignals(environment.signals)
  const log = openCommandLog(environment, options.logging)
  const metrics = createAdmissionMetrics()
  let judge = await loadJudge(options)
  const certificate = await loadGateCertificate(options.certificate)
  metrics.certificateExpiry.set(certificate.notAfterMs / 1000)
  const isReady = (): boolean => !signals.stop.aborted
  const { rewriting } = options
  const parts = { judge: () => judge, rewriting, metrics, log, clock: systemClock, isReady }
  await using gate = await openGate(parts, options.listen, certificate.tls)
  using reloading = new Reloading({ log, count: (what, result) => metrics.reloads.inc({ what, result }) })
  await reloading.watch('rules', [options.file.path], async () => {
    judge = await loadJudge(options)
    return summaryOf(judge.rules)
  })
  await reloading.watch('certificate', certificate.files, async () => {
    const { tls, notAfterMs } = await loadGateCertificate(options.certificate)
    gate.secure(tls)
    metrics.certificateExpiry.set(notAfterMs / 1000)
    return { notAfter: new Date(notAfterMs).toISOString() }
  })
  signals.onReload(() => reloading.reloadAll())
  log.info({ listen: gate.address, ...summaryOf(judge.rules) }, 'the gate is open')
  await signals.stopped()
  log.info({}, 'the gate closes')
  await systemClock.delay(options.drainDelayMs, signals.hurry).catch(() => undefined)
  return EXIT.ok
}

/** An image that was rewritten is judged by what it stands for. */
async function loadJudge({ file, rewriting }: AdmissionOptions): Promise<ImageJudge> {
  const rules = await loadAdmission(file)
  const mirrors = rewriting === undefined ? rules.mirrors : [...rules.mirrors, rewriting.mirror]
  return new ImageJudge({ ...rules, mirrors })
}

function summaryOf({ mode, isAllowedByDefault, rules }: AdmissionRules): object {
  return { mode, default: isAllowedByDefault ? 'allow' : 'deny', rules: rules.length }
}
