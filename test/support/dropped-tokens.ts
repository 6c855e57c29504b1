import type { PartitionRule } from '../../engine/kv/partition-rule.js';

/** Of a sequence in partitions, the tokens that are dropped when the one at `position` is computed: those behind the sink. */
export function droppedAt(rule: PartitionRule, position: number): number {
  return Math.max(0, rule.midEndAt(position) - rule.sinkTokens - rule.midTokens - rule.farTokens);
}
