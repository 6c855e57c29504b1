import type { Row, Rows } from '../rows.js';
import type { PrefillFigures } from './measure.js';

/** Names of rows, behind length and tau: what writes them and what draws them must agree. */
const titles = {
  rate: 'prompt',
  attended: 'tokens that rows attend to, of those before them',
  kept: 'older pages that rows look at',
} as const;

/** Rows of prompts of one length; the first figures are those of dense prefill, and the others' baseline. */
export function addPrefillFigures(rows: Rows, length: number, figures: readonly PrefillFigures[]): void {
  const dense = figures[0]!;
  for (const own of figures) {
    const name = (title: string) =>
      `${length} tokens, ${own === dense ? 'dense' : `tau ${own.tau}`}: ${title}`;
    const add = (title: string, unit: string, of: (figures: PrefillFigures) => number) =>
      rows.add(name(title), of(own), unit, own === dense ? null : of(dense));
    add(titles.rate, 'tok/s', ({ seconds }) => length / seconds);
    add('matmuls', 's', ({ opSeconds }) => opSeconds.matmul);
    add('attention', 's', ({ opSeconds }) => opSeconds.prefillAttention + opSeconds.decodeAttention);
    add('the rest, looking for pages included', 's', ({ opSeconds }) => opSeconds.other);
    if (own.keptByLayer.length > 0) {
      rows.add(name(titles.attended), 100 * own.attended, '%');
      const mean = own.keptByLayer.reduce((sum, kept) => sum + kept, 0) / own.keptByLayer.length;
      rows.add(name(titles.kept), 100 * mean, '%');
    }
    if (own.perplexity) {
      add(
        'perplexity of the text where rows look at less',
        'ppl',
        ({ perplexity }) => perplexity!.sparseRows,
      );
      add('perplexity of its end', 'ppl', ({ perplexity }) => perplexity!.end);
    }
    if (own.rightAnswers !== undefined) add('right answers', '%', ({ rightAnswers }) => 100 * rightAnswers!);
    for (const [layer, kept] of own.keptByLayer.entries())
      rows.add(name(`${titles.kept}, layer ${layer}`), 100 * kept, '%');
  }
}

/** Rows of one layer. */
export const layerRow = new RegExp(`^(\\d+) tokens, tau ([\\d.]+): ${titles.kept}, layer (\\d+)$`);

/** What sparse prefill of one length and tau brings. */
export interface SpeedUp {
  readonly length: number;
  readonly tau: number;
  /** Percent of the tokens that dense rows attend to. */
  readonly attended: number;
  /** Of the rate, over dense prefill's. */
  readonly ratio: number;
}

export function speedUpsOf(rows: readonly Row[]): SpeedUp[] {
  return rows.flatMap(({ name, ratio }) => {
    const [, side, length, tau] =
      new RegExp(`^((\\d+) tokens, tau ([\\d.]+)): ${titles.rate}$`).exec(name) ?? [];
    const attended = rows.find((row) => row.name === `${side}: ${titles.attended}`)?.value;
    if (attended === undefined || ratio === null) return [];
    return [{ length: Number(length), tau: Number(tau), attended, ratio }];
  });
}
