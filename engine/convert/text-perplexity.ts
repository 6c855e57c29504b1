import type { ModelSpec } from '../model/model-spec.js';
import { rmsNorm } from './hidden-states.js';
import { type Matrix, multiply, rowBlock, transposed } from './matrix.js';
import type { WeightReader } from './weight-reader.js';

/** Rows of the vocabulary at a time: all of it in float64 may be gigabytes. */
const vocabularyRows = 8192;
const tokenRows = 512;

/** e to the mean of -ln p of each token but a window's first, from the hidden states behind the last layer. */
export function perplexity(
  hidden: readonly Matrix[],
  windows: readonly Int32Array[],
  reader: WeightReader,
  spec: ModelSpec,
): number {
  const gain = reader.matrix('model.norm.weight');
  const head = spec.tiedEmbeddings ? 'model.embed_tokens.weight' : 'lm_head.weight';
  const normed = hidden.map((x) => rmsNorm(x, gain, spec.normEps));
  // Of each predicted token: the largest logit so far, the sum of exp(logit - largest), and the true one's logit.
  const most = normed.map(({ rows }) => new Float64Array(rows).fill(Number.NEGATIVE_INFINITY));
  const sums = normed.map(({ rows }) => new Float64Array(rows));
  const own = normed.map(({ rows }) => new Float64Array(rows));
  for (let first = 0; first < spec.vocab; first += vocabularyRows) {
    const weights = reader.rowRange(head, first, Math.min(vocabularyRows, spec.vocab - first));
    for (const [index, x] of normed.entries()) {
      for (let begin = 0; begin < x.rows - 1; begin += tokenRows) {
        const rows = rowBlock(x, begin, Math.min(tokenRows, x.rows - 1 - begin));
        const logits = multiply(rows, transposed(weights));
        for (let row = 0; row < rows.rows; row += 1) {
          const line = logits.data.subarray(row * logits.cols, (row + 1) * logits.cols);
          const at = begin + row;
          const before = most[index]![at]!;
          const largest = line.reduce((a, b) => Math.max(a, b), before);
          let sum = sums[index]![at]! * Math.exp(before - largest);
          for (const logit of line) sum += Math.exp(logit - largest);
          most[index]![at] = largest;
          sums[index]![at] = sum;
          const next = windows[index]![at + 1]! - first;
          if (next >= 0 && next < line.length) own[index]![at] = line[next]!;
        }
      }
    }
  }
  let nats = 0;
  let count = 0;
  for (const [index, x] of normed.entries()) {
    for (let at = 0; at < x.rows - 1; at += 1) {
      nats += most[index]![at]! + Math.log(sums[index]![at]!) - own[index]![at]!;
      count += 1;
    }
  }
  return Math.exp(nats / count);
}
