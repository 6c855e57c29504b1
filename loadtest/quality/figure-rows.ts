import type { Row, Rows } from '../rows.js';
import type { ComparedFigures, QualityFigures, QualityPlan } from './measure.js';

/** Names of rows, behind the policy's: what writes them and what draws them must agree. */
const titles = {
  perplexity: 'perplexity of the text',
  retrieval: 'right answers',
  sameAnswers: "answers that are exact's, token for token",
  sameToken: "greedy tokens that are exact's",
  klMean: 'KL divergence of a prediction, mean',
  klP99: 'KL divergence of a prediction, p99',
  bytes: 'KV of a token',
} as const;

/** Rows of one policy; `exact` is the baseline, or absent for the exact cache's own rows. */
export function addFigures(
  rows: Rows,
  figures: QualityFigures | ComparedFigures,
  exact: QualityFigures | undefined,
  { retrieval, timing }: QualityPlan,
): void {
  const add = (title: string, value: number, unit: string, baseline?: number) =>
    rows.add(`${figures.policy}: ${title}`, value, unit, baseline ?? null);
  const percent = (title: string, of: (figures: QualityFigures) => number) =>
    add(title, 100 * of(figures), '%', exact && 100 * of(exact));
  const compared = 'divergence' in figures ? figures : undefined;

  add(titles.bytes, figures.bytesPerToken, 'bytes', exact?.bytesPerToken);
  add(titles.perplexity, figures.perplexity, 'ppl', exact?.perplexity);
  if (compared) {
    const { mean, p99 } = compared.divergence.distribution;
    add(titles.klMean, mean, 'millinats');
    add(titles.klP99, p99, 'millinats');
    add(titles.sameToken, 100 * compared.divergence.sameToken, '%');
    add(titles.sameAnswers, 100 * compared.sameAnswers, '%');
  }
  percent(titles.retrieval, (of) => of.retrieval.accuracy.accuracy());
  const { times } = figures;
  if (times) {
    const ms = (title: string, seconds: number, baseline: number | undefined) =>
      add(title, 1000 * seconds, 'ms', baseline && 1000 * baseline);
    const beside = compared?.exactTimes;
    ms(`prompt of ${timing.context} tokens`, times.prefill, beside?.prefill);
    for (const [index, count] of timing.sequences.entries()) {
      const title = `decode step, ${count} x ${timing.context} tokens`;
      ms(title, times.decode[index]!, beside?.decode[index]);
    }
  }
  for (const depth of retrieval.depths) {
    for (const context of retrieval.contexts) {
      percent(cellTitle(context, depth), (of) => of.retrieval.accuracy.accuracy({ context, depth }));
    }
  }
}

function cellTitle(context: number, depth: number): string {
  return `${titles.retrieval} at ${context} tokens, depth ${depth}%`;
}

/** Rows of one cell of a heat map. */
export const cellRow = new RegExp(`^(.+): ${titles.retrieval} at (\\d+) tokens, depth (\\d+)%$`);

/** A cache policy's place among the others. */
export interface PolicyPoint {
  readonly policy: string;
  readonly bytesPerToken: number;
  /** Percent of right answers. */
  readonly accuracy: number;
  /** Mean, in millinats; absent for the exact cache. */
  readonly kl?: number;
}

export function pointsOf(rows: readonly Row[]): PolicyPoint[] {
  const valueIn = (policy: string, title: string) =>
    rows.find(({ name }) => name === `${policy}: ${title}`)?.value;
  return policiesOf(rows).flatMap((policy) => {
    const bytesPerToken = valueIn(policy, titles.bytes);
    const accuracy = valueIn(policy, titles.retrieval);
    const kl = valueIn(policy, titles.klMean);
    if (bytesPerToken === undefined || accuracy === undefined) return [];
    return [{ policy, bytesPerToken, accuracy, ...(kl !== undefined && { kl }) }];
  });
}

function policiesOf(rows: readonly Row[]): string[] {
  const suffix = `: ${titles.bytes}`;
  return rows.flatMap(({ name }) => (name.endsWith(suffix) ? [name.slice(0, -suffix.length)] : []));
}

/** Percent of right answers in each cell, by policy. */
export function cellsOf(
  rows: readonly Row[],
): Map<string, { context: number; depth: number; value: number }[]> {
  const maps = new Map<string, { context: number; depth: number; value: number }[]>();
  for (const { name, value } of rows) {
    const [, policy, context, depth] = cellRow.exec(name) ?? [];
    if (policy === undefined) continue;
    maps.set(policy, [
      ...(maps.get(policy) ?? []),
      { context: Number(context), depth: Number(depth), value },
    ]);
  }
  return maps;
}
