import { Counter, Gauge, type Registry } from 'prom-client'

/** Metrics of what replicas ask each other. `docs/operations.md` explains them. */
export interface PeerMetrics {
  readonly peerMembers: Gauge<'state'>
  readonly peerQuestions: Counter<'what' | 'result'>
  readonly peerAnswers: Counter<'what' | 'result'>
  readonly peerReceivedBytes: Counter
  readonly peerStrangers: Counter<'why'>
  readonly peerWrongContent: Counter
}

/** Declares the metrics in a registry. */
export function createPeerMetrics(registry: Registry): PeerMetrics {
  const registers = [registry]
  return {
    peerMembers: new Gauge({
      name: 'entrepot_peer_members',
      help: 'Replicas of the cluster, by state.',
      labelNames: ['state'],
      registers,
    }),
    peerQuestions: new Counter({
      name: 'entrepot_peer_questions_total',
      help: 'Questions to other replicas, by what was asked and what came of it.',
      labelNames: ['what', 'result'],
      registers,
    }),
    peerAnswers: new Counter({
      name: 'entrepot_peer_answers_total',
      help: 'Questions of other replicas, by what was asked and what was answered.',
      labelNames: ['what', 'result'],
      registers,
    }),
    peerReceivedBytes: new Counter({
      name: 'entrepot_peer_received_bytes_total',
      help: 'Bytes of content from other replicas.',
      registers,
    }),
    peerStrangers: new Counter({
      name: 'entrepot_peer_strangers_total',
      help: 'Requests at the listener for replicas that were not from one of this cluster.',
      labelNames: ['why'],
      registers,
    }),
    peerWrongContent: new Counter({
      name: 'entrepot_peer_wrong_content_total',
      help: 'Content from other replicas that did not match its digest.',
      registers,
    }),
  }
}
