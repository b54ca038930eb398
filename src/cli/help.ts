import { ConfigError, wordProblem } from '../config/problem.ts'
import { nearest } from '../lib/words/nearest.ts'
import { type Example, examplesText } from './tool.ts'

/** First part of `entrepot --help`. */
export const USAGE = `A pull-through caching mirror for OCI registries.

  entrepot [serve] [filesystem | s3] [options]   run the mirror, with its cache in a directory or in a bucket
  entrepot check [filesystem | s3] [options]     print the effective configuration, or its problems
  entrepot healthcheck [options]                 check that the mirror with these options is alive
  entrepot setup <client> --mirror URL           print or write the configuration of a client
  entrepot doctor [options]                      report what this machine's clients pull through the mirror
  entrepot credential-provider --for REGISTRY    give the kubelet credentials for the mirror (KEP-4412)
  entrepot import <directory> [--dry-run]        take what another registry has stored into hosted repositories
  entrepot admission [options]                   gate of a Kubernetes cluster: which images Pods may use
  entrepot policy --kubernetes [options]         print the rules of the gate for the API server itself
  entrepot verify-image -name NAME               the same rules for the image-verifier plugin of containerd
  entrepot node-config --mirror URL [options]    keep the mirror in the runtimes of a Kubernetes node
  entrepot completion bash | zsh | fish          print the completion of a shell
  entrepot help <command>                        explain a command, with examples

  Commands for a running daemon (each has --json):
  entrepot status [--watch]                      show its health, how full it is, and downloads
  entrepot ls [pattern]… [--blobs]               list cached images or blobs
  entrepot explain <image>                       explain what is cached of an image, and why it was a hit
  entrepot rm <image | pattern>…                 remove images from the cache
  entrepot prune [--dry-run]                     remove images that no tag leads to any more
  entrepot pin [image]…, unpin <image>…          protect images from eviction, or stop protecting them
  entrepot warm <image>… [--platform OS/ARCH]    pull images into the cache
  entrepot verify                                verify everything in the cache
  entrepot token create | ls | revoke            make, list and revoke robot tokens
  entrepot gc [--free SIZE] [--dry-run]          evict now
  entrepot who                                   show the clients that pulled recently
  entrepot cancel <digest>…                      cancel downloads that are running
  entrepot tags <image> --history                show every digest that a tag had, since when and by whom
  entrepot tag <image> <digest>                  roll a tag back, or fix a mirrored one to a digest
  entrepot events ls | replay                    show what endpoints were told, or tell them again`

const EXAMPLES: readonly Example[] = [
  ['filesystem --root /var/lib/entrepot --max-size 200GiB', 'a mirror on port 8080'],
  ['check --upstream-config-file upstreams.yaml', 'is the configuration right?'],
  ['setup containerd --mirror http://mirror:8080 --write', 'make this machine use it'],
  ['status --watch', 'is it healthy?'],
]

/** Last part of `entrepot --help`. */
export const EPILOGUE = `${examplesText(EXAMPLES)}

In brackets: the environment variable (a flag wins over it) and the default.
Exit codes: 0 success, 1 failure, 2 the configuration is invalid and nothing was started.`

/** The command line that `entrepot help [command]` stands for; its last word is always `--help`. */
export function helpLine(words: readonly string[], commands: readonly string[]): readonly string[] {
  const [command, ...more] = words.filter(word => !word.startsWith('-'))
  const [extra] = more
  if (extra !== undefined)
    throw new ConfigError([wordProblem(extra, 'is an unexpected argument', 'name one command')])
  if (command === undefined) return ['--help']
  if (commands.includes(command)) return [command, '--help']
  const meant = nearest(command, commands)
  const hint = meant === undefined ? 'entrepot help lists the commands' : `did you mean ${meant}?`
  throw new ConfigError([wordProblem(command, 'is not a command', hint)])
}
