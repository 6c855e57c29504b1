import {
  addFeedForward,
  addProjection,
  attend,
  attentionInputs,
  attentionName,
  compact,
  embed,
  type Matrix,
  perplexity,
  Rotation,
  readAttention,
  readFeedForward,
  rowBlock,
  subtract,
  sumOfSquares,
  WeightReader,
} from '../../engine/convert/index.js';
import type { Checkpoint, PartitionRule } from '../../engine/index.js';
import { attentionMatching, blockMean, centroids } from './page-summary.js';
import { attendPartitions, type Rest } from './partitioned-attention.js';

/** `all`: full attention. The others by what stands in for pages that are not selected. */
export const rests: Readonly<Record<string, Rest | 'all'>> = {
  'full attention': 'all',
  'selected pages alone': 'nothing',
  'and all tokens of the others': 'tokens',
  'and block means': blockMean,
  'and 2 centroids a page': centroids(2),
  'and 4 centroids a page': centroids(4),
  'and attention matching, 1 pair a page': attentionMatching(1),
  'and attention matching, 4 pairs a page': attentionMatching(4),
};

export interface SummaryFigures {
  readonly name: string;
  /** Of the tokens behind the first that does not see everything. */
  readonly perplexity: number;
  /** Of what the heads read there, from what they read by full attention of the same inputs: |difference| / |value|, by layer. */
  readonly errors: readonly number[];
}

/** Where the first row stands that does not see everything. */
export function firstSelecting(rule: PartitionRule): number {
  let position = 0;
  while (rule.midEndAt(position) - rule.sinkTokens <= rule.topPages * rule.pageTokens)
    position = rule.nextAt(position);
  return position;
}

/** Reads the windows, all of one length, in float64 with each of the rests, and compares. */
export function measureSummaries(
  checkpoint: Checkpoint,
  windows: readonly Int32Array[],
  rule: PartitionRule,
  onProgress: (done: number) => void,
): SummaryFigures[] {
  const { spec } = checkpoint;
  const reader = new WeightReader(checkpoint);
  const tokens = windows[0]!.length;
  const from = firstSelecting(rule);
  const rotation = new Rotation(spec.rope, tokens + rule.mostSeen);
  const embedded = embed(windows, reader).original;
  const streams = Object.entries(rests).map(([name, rest]) => ({
    name,
    rest,
    hidden: embedded.map(compact),
    errors: [] as number[],
  }));
  const [original] = streams;
  for (let layer = 0; layer < spec.layers; layer++) {
    const weights = readAttention(reader, spec, layer);
    const gain = reader.matrix(`model.layers.${layer}.input_layernorm.weight`);
    const bias = spec.outputBias ? reader.matrix(attentionName(layer, 'o', 'bias')) : undefined;
    const feedForward = readFeedForward(reader, spec, layer);
    const shape = { heads: spec.heads, headDim: spec.headDim, window: 0 };
    const read = (x: Matrix, rest: Rest | 'all') => {
      const inputs = attentionInputs(x, gain, spec);
      if (rest === 'all') return attend(inputs, weights, shape, rotation);
      return attendPartitions(inputs, weights, spec, { rule, rotation, rest });
    };
    const inputs = original!.hidden.map(compact);
    const truth = inputs.map((x) => read(x, 'all'));
    for (const [index, { rest, hidden, errors }] of streams.entries()) {
      let [miss, size] = [0, 0];
      for (const [at, x] of hidden.entries()) {
        const behind = (m: Matrix) => compact(rowBlock(m, from, tokens - from));
        const difference = behind(rest === 'all' ? truth[at]! : read(inputs[at]!, rest));
        subtract(difference, behind(truth[at]!));
        miss += sumOfSquares(difference);
        size += sumOfSquares(behind(truth[at]!));
        addProjection(x, rest === 'all' ? truth[at]! : read(x, rest), weights.o, bias);
        addFeedForward(x, feedForward, spec);
      }
      errors.push(Math.sqrt(miss / size));
      onProgress((layer + (index + 1) / streams.length) / spec.layers);
    }
  }
  const ends = (of: readonly Matrix[]) => of.map((x) => rowBlock(x, from, tokens - from));
  const texts = windows.map((window) => window.subarray(from));
  return streams.map(({ name, hidden, errors }) => ({
    name,
    errors,
    perplexity: perplexity(ends(hidden), texts, reader, spec),
  }));
}
