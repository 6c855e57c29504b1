import { pageClasses } from '../../engine/device/device.js';
import type { PackingRule } from '../../engine/kv/packing-rule.js';
import { chooseClasses } from '../../engine/kv/page-classes.js';
import type { PartitionRule } from '../../engine/kv/partition-rule.js';
import { Saliency } from '../../engine/kv/saliency.js';
import { PrefillSight, type SparsePrefill } from '../../engine/kv/sparse-prefill.js';
import { droppedAt } from './dropped-tokens.js';
import {
  attentionOf,
  int8,
  layers,
  packedValue,
  pageTokens,
  readBy,
  valueBehind,
  vocab,
} from './hashing-values.js';

/**
 * What an undisturbed sequence answers, each token read behind those that are packed when the rule says, and the prompt's
 * looking where that rule says.
 */
export function expectedAnswer(
  prompt: readonly number[],
  count: number,
  rule: PackingRule,
  sparse?: SparsePrefill,
): number[] {
  const sight = sparse && new PrefillSight(sparse, prompt.length);
  const tokens = [...prompt];
  // As they are read.
  const values: number[] = [];
  let packedBlocks = 0;
  const saliency = new Saliency(prompt.length, layers, pageTokens);
  const next = (): number => {
    const position = values.length;
    const due = rule.packedAt(prompt.length, position) / pageTokens;
    if (due > packedBlocks) {
      const scores = saliency.scoresAt(rule.decidedAt(prompt.length, position));
      const classes = chooseClasses(rule.form, scores, packedBlocks, due);
      for (let index = packedBlocks * pageTokens; index < due * pageTokens; index++) {
        const row = (Math.floor(index / pageTokens) - packedBlocks) * layers;
        values[index] = packedValue(values[index]!, classes.subarray(row, row + layers));
      }
      packedBlocks = due;
    }
    const isRounded = rule.roundedAt(prompt.length, position) > 0;
    if (isRounded && position === prompt.length) {
      for (let index = packedBlocks * pageTokens; index < position; index++) {
        values[index] = packedValue(values[index]!, int8);
      }
    }
    const value = valueBehind(tokens[position]!, readBy(sight?.at(position), values));
    values.push(isRounded ? packedValue(value, int8) : value);
    for (const run of sparse?.probesAmong(prompt.length, position, position + 1) ?? []) {
      sight!.add(run, attentionOf(value, position));
    }
    for (const run of rule.probesAmong(prompt.length, position, position + 1)) {
      saliency.add(run, attentionOf(value, position));
    }
    return value;
  };
  while (tokens.length < prompt.length + count) {
    let last = 0;
    while (values.length < tokens.length) last = next();
    tokens.push(last % vocab);
  }
  return tokens.slice(prompt.length);
}

/** The same of a sequence in partitions, which sees all that it holds. */
export function expectedInPartitions(
  prompt: readonly number[],
  count: number,
  rule: PartitionRule,
): number[] {
  const tokens = [...prompt];
  const values: number[] = [];
  const int4 = new Uint8Array(layers).fill(pageClasses.indexOf('int4'));
  while (tokens.length < prompt.length + count) {
    while (values.length < tokens.length) {
      const position = values.length;
      const midEnd = rule.midEndAt(position);
      const midBegin = rule.sinkTokens + droppedAt(rule, position);
      const read = [
        ...values.slice(0, rule.sinkTokens),
        ...values.slice(midBegin, midEnd).map((value) => packedValue(value, int4)),
        ...values.slice(midEnd),
      ];
      values.push(valueBehind(tokens[position]!, read));
    }
    tokens.push(values.at(-1)! % vocab);
  }
  return tokens.slice(prompt.length);
}
