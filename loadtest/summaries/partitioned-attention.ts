import {
  type AttentionWeights,
  colBlock,
  compact,
  copyInto,
  type Matrix,
  matrix,
  multiply,
  type Rotation,
  rowBlock,
  stack,
  transposed,
} from '../../engine/convert/index.js';
import type { ModelSpec, PartitionRule } from '../../engine/index.js';
import type { PageSummary, Summarize } from './page-summary.js';

/** What the mid pages that a row does not select contribute: nothing, all of their tokens, or a summary. */
export type Rest = 'nothing' | 'tokens' | Summarize;

export interface Partitioned {
  readonly rule: PartitionRule;
  /** Of positions up to the window's tokens, and as many more as a row sees. */
  readonly rotation: Rotation;
  readonly rest: Rest;
}

/**
 * What the heads read of a window under `--kv pack` [tokens, heads * headDim], in float64: of sink and recent all; of mid the
 * pages in which a key scores highest, at positions that are closed up (`Ops::attendPartitions` in native/core/ops.h); and of
 * the other mid pages the rest, as if each stood right before the recent ones. While mid has no more pages than are selected,
 * that is full attention.
 */
export function attendPartitions(
  inputs: Matrix,
  weights: AttentionWeights,
  { heads, headDim, kvHeads }: Pick<ModelSpec, 'heads' | 'headDim' | 'kvHeads'>,
  partitioned: Partitioned,
): Matrix {
  const headOf = (w: Matrix, head: number) =>
    multiply(inputs, transposed(rowBlock(w, head * headDim, headDim)));
  const out = matrix(inputs.rows, heads * headDim);
  const group = heads / kvHeads;
  for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
    const sequence = new PartitionedHead(headOf(weights.k, kvHead), headOf(weights.v, kvHead), partitioned);
    const heads = Array.from({ length: group }, (_, index) => kvHead * group + index);
    const queries = heads.map((head) => scaled(headOf(weights.q, head), 1 / Math.sqrt(headDim)));
    for (let begin = 0; begin < inputs.rows; ) {
      const end = Math.min(inputs.rows, partitioned.rule.nextAt(begin));
      const own = queries.map((query) => rowBlock(query, begin, end - begin));
      for (const [index, read] of sequence.attend(own, begin).entries()) {
        copyInto(rowBlock(colBlock(out, heads[index]! * headDim, headDim), begin, end - begin), read);
      }
      begin = end;
    }
  }
  return out;
}

/** Of one KV head the keys, before RoPE, and values of a window, [tokens, headDim]. */
class PartitionedHead {
  /** Of the mid pages, in their order. */
  readonly #summaries: PageSummary[] = [];
  /** Keys turned as if each page were the first. */
  readonly #local: Matrix;

  constructor(
    private readonly keys: Matrix,
    private readonly values: Matrix,
    private readonly partitioned: Partitioned,
  ) {
    const { pageTokens } = partitioned.rule;
    this.#local = this.#turned(keys, (row) => row % pageTokens);
  }

  /** What the rows from `begin` on read, by the queries of each head that shares the KV head. Between them nothing moves. */
  attend(queries: readonly Matrix[], begin: number): Matrix[] {
    const { rule, rest } = this.partitioned;
    const { pageTokens } = rule;
    const { rows } = queries[0]!;
    const mid = this.#midPagesAt(begin);
    const values = rowBlock(this.values, 0, begin + rows);
    const pages = (mid.end - mid.begin) / pageTokens;
    if (pages === 0) {
      const none = Array.from({ length: rows }, () => []);
      return queries.map((query) => weighted(this.#seenScores(query, begin, mid, none), values));
    }
    // As if each mid page stood right before the recent ones.
    const close = queries.map((query) => this.#turned(query, (row) => begin + row - mid.end + pageTokens));
    const scores = close.map((query) => multiply(query, transposed(rowsOf(this.#local, mid))));
    const selected = selectPages(scores, rows, pages, rule);
    if (typeof rest === 'function') this.#summarize(rest, stack(close), mid);
    return queries.map((query, head) => {
      const seen = this.#seenScores(query, begin, mid, selected);
      if (rest === 'nothing' || pages <= rule.topPages) return weighted(seen, values);
      if (rest === 'tokens') {
        hideSelected(scores[head]!, selected, (column) => Math.floor(column / pageTokens));
        return weighted(side(seen, scores[head]!), stack([values, rowsOf(this.values, mid)]));
      }
      const pageOf = this.#summaries.flatMap(({ keys }, page) => Array<number>(keys.rows).fill(page));
      const biases = this.#summaries.flatMap((summary) => [...summary.biases]);
      const summaryScores = multiply(
        close[head]!,
        transposed(stack(this.#summaries.map(({ keys }) => keys))),
      );
      for (let at = 0; at < summaryScores.data.length; at++) {
        summaryScores.data[at]! += biases[at % biases.length]!;
      }
      hideSelected(summaryScores, selected, (column) => pageOf[column]!);
      return weighted(
        side(seen, summaryScores),
        stack([values, ...this.#summaries.map((summary) => summary.values)]),
      );
    });
  }

  #midPagesAt(position: number): Range {
    const { rule } = this.partitioned;
    return { begin: rule.sinkTokens, end: rule.midEndAt(position) };
  }

  #summarize(summarize: Summarize, queries: Matrix, mid: Range): void {
    const { pageTokens } = this.partitioned.rule;
    for (let page = this.#summaries.length; page < (mid.end - mid.begin) / pageTokens; page++) {
      const begin = mid.begin + page * pageTokens;
      const own = { begin, end: begin + pageTokens };
      this.#summaries.push(
        summarize({
          keys: compact(rowsOf(this.#local, own)),
          values: compact(rowsOf(this.values, own)),
          queries,
        }),
      );
    }
  }

  /** [rows, tokens up to the last row]; -infinity where a row does not see a token. */
  #seenScores(query: Matrix, begin: number, mid: Range, selected: readonly number[][]): Matrix {
    const { pageTokens } = this.partitioned.rule;
    const end = begin + query.rows;
    const scores = matrix(query.rows, end);
    scores.data.fill(Number.NEGATIVE_INFINITY);
    const own = this.#turned(query, (row) => begin + row);
    const count = selected[0]!.length;
    const absent = mid.end - mid.begin - count * pageTokens;
    const sinkEnd = Math.min(mid.begin, end);
    const sink = this.#turned(rowBlock(this.keys, 0, sinkEnd), (row) => row + absent);
    multiply(own, transposed(sink), { into: colBlock(scores, 0, sinkEnd) });
    for (let place = 0; place < count; place++) {
      const behind = (count - 1 - place) * pageTokens;
      const turned = this.#turned(query, (row) => begin + row - mid.end + pageTokens + behind);
      for (const [row, pages] of selected.entries()) {
        const first = mid.begin + pages[place]! * pageTokens;
        const keys = rowBlock(this.#local, first, pageTokens);
        multiply(rowBlock(turned, row, 1), transposed(keys), {
          into: rowBlock(colBlock(scores, first, pageTokens), row, 1),
        });
      }
    }
    if (end > mid.end) {
      const recent = this.#turned(rowBlock(this.keys, mid.end, end - mid.end), (row) => mid.end + row);
      multiply(own, transposed(recent), { into: colBlock(scores, mid.end, end - mid.end) });
    }
    for (let row = 0; row < query.rows; row++) {
      scores.data.fill(Number.NEGATIVE_INFINITY, row * end + begin + row + 1, (row + 1) * end);
    }
    return scores;
  }

  #turned(m: Matrix, positionOf: (row: number) => number): Matrix {
    const turned = compact(m);
    const positions = Float64Array.from({ length: m.rows }, (_, row) => positionOf(row));
    this.partitioned.rotation.turn(turned, positions);
    return turned;
  }
}

/** Tokens [begin, end). */
interface Range {
  readonly begin: number;
  readonly end: number;
}

function rowsOf(m: Matrix, { begin, end }: Range): Matrix {
  return rowBlock(m, begin, end - begin);
}

function scaled(m: Matrix, factor: number): Matrix {
  return { ...m, data: m.data.map((value) => value * factor) };
}

/** Of each row the pages in which a key scores highest with one of the heads, ascending; the earlier of two that are equal. */
function selectPages(
  scores: readonly Matrix[],
  rows: number,
  pages: number,
  { topPages, pageTokens }: PartitionRule,
): number[][] {
  return Array.from({ length: rows }, (_, row) => {
    const highest = Array.from({ length: pages }, (_, page) => {
      let most = Number.NEGATIVE_INFINITY;
      for (const { data, cols } of scores) {
        const at = row * cols + page * pageTokens;
        for (let token = 0; token < pageTokens; token++) most = Math.max(most, data[at + token]!);
      }
      return { page, most };
    });
    highest.sort((a, b) => b.most - a.most || a.page - b.page);
    return highest
      .slice(0, topPages)
      .map(({ page }) => page)
      .sort((a, b) => a - b);
  });
}

/** What a row has selected it does not see once more. */
function hideSelected(
  scores: Matrix,
  selected: readonly number[][],
  pageOf: (column: number) => number,
): void {
  for (const [row, pages] of selected.entries()) {
    const hidden = new Set(pages);
    for (let column = 0; column < scores.cols; column++) {
      if (hidden.has(pageOf(column))) scores.data[row * scores.cols + column] = Number.NEGATIVE_INFINITY;
    }
  }
}

/** Beside each other, both without gaps. */
function side(left: Matrix, right: Matrix): Matrix {
  const both = matrix(left.rows, left.cols + right.cols);
  for (let row = 0; row < both.rows; row++) {
    for (const [{ data, cols }, at] of [
      [left, 0],
      [right, left.cols],
    ] as const) {
      both.data.set(data.subarray(row * cols, (row + 1) * cols), row * both.cols + at);
    }
  }
  return both;
}

/** softmax(scores) values; the scores become probabilities. */
function weighted(scores: Matrix, values: Matrix): Matrix {
  for (let row = 0; row < scores.rows; row++) {
    const line = scores.data.subarray(row * scores.cols, (row + 1) * scores.cols);
    let most = Number.NEGATIVE_INFINITY;
    for (const score of line) if (score > most) most = score;
    let sum = 0;
    for (let at = 0; at < line.length; at++) {
      const score = line[at]!;
      const weight = score === Number.NEGATIVE_INFINITY ? 0 : Math.exp(score - most);
      line[at] = weight;
      sum += weight;
    }
    for (let at = 0; at < line.length; at++) line[at]! /= sum;
  }
  return multiply(scores, values);
}
