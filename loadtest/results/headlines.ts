import { readable } from '../table.js';
import { anchor, type Results, titleOf } from './sections.js';

/** What readers ask first, as one row of one file answers it. */
interface Headline {
  readonly about: string;
  readonly file: string;
  /** Of the row; the last one that matches. */
  readonly row: RegExp;
  readonly figure: 'value' | 'ratio';
  /** What was aimed at, before anything was measured. */
  readonly target?: { readonly least: number } | { readonly most: number };
}

export const headlines: readonly Headline[] = [
  {
    about: 'a prompt of 2048 tokens, int8 weights: tokens a second over those of llama.cpp',
    file: 'peer-int8',
    row: /^int8 \/ Q8_0, pp2048$/,
    figure: 'ratio',
    target: { least: 4 },
  },
  {
    about: 'decode of one sequence, likewise',
    file: 'peer-int8',
    row: /^int8 \/ Q8_0, tg\d+, 1 sequence$/,
    figure: 'ratio',
    target: { least: 1.15 },
  },
  {
    about: 'decode of 16 sequences, likewise',
    file: 'peer-int8',
    row: /^int8 \/ Q8_0, tg\d+, 16 sequences$/,
    figure: 'ratio',
    target: { least: 5 },
  },
  {
    about: 'decode of one sequence on processors with AVX2, likewise',
    file: 'peer-avx2',
    row: /^int8 \/ Q8_0, tg\d+, 1 sequence$/,
    figure: 'ratio',
  },
  {
    about: 'streams while long prompts arrive: TBT p99 over that of the streams alone',
    file: 'schedulers',
    row: /^nexus, slack 1\.5: TBT while prompts arrive, p99$/,
    figure: 'ratio',
    target: { most: 1.5 },
  },
  {
    about: 'and TTFT of these prompts over that of prefill-first',
    file: 'schedulers',
    row: /^nexus, slack 1\.5: TTFT beside the streams, p50$/,
    figure: 'ratio',
    target: { most: 1.3 },
  },
  {
    about: 'a recorded chat load: goodput over that of prefill-first',
    file: 'trace-conv-1b',
    row: /^nexus: goodput$/,
    figure: 'ratio',
  },
  {
    about: '`--kv zip`: bytes of a token over those of the exact cache',
    file: 'quality-600',
    row: /^zip: KV of a token$/,
    figure: 'ratio',
    target: { most: 0.25 },
  },
  {
    about: 'its right answers over those of the exact cache',
    file: 'quality-600',
    row: /^zip: right answers$/,
    figure: 'ratio',
  },
  {
    about: 'sequences that run at once in the same memory, over those of the exact cache',
    file: 'concurrency',
    row: /^zip: sequences at once, median while requests wait$/,
    figure: 'ratio',
    target: { least: 4 },
  },
  {
    about:
      'an endless session (`--kv pack`) of a million tokens: its KV at the end over that when its partitions became full',
    file: 'sessions-million',
    row: /^KV held, up to \d+ tokens$/,
    figure: 'ratio',
  },
  {
    about: 'and its decode step, likewise',
    file: 'sessions-million',
    row: /^decode step, up to \d+ tokens$/,
    figure: 'ratio',
  },
  {
    about: 'answers that follow a schema: decode step of the first answer of each over that of free answers',
    file: 'serve-structured',
    row: /^decode step, first answer of each schema$/,
    figure: 'ratio',
    target: { most: 1.05 },
  },
  {
    about: 'and with masks that are known',
    file: 'serve-structured',
    row: /^decode step, the same again$/,
    figure: 'ratio',
    target: { most: 1.05 },
  },
  {
    about: '64 streams beside 1000 idle sockets: TBT p99 over that without them',
    file: 'serve-sockets',
    row: /^TBT beside \d+ idle sockets, p99$/,
    figure: 'ratio',
    target: { most: 1.3 },
  },
  {
    about: 'failures under a mixed load for long',
    file: 'soak',
    row: /^failures$/,
    figure: 'value',
    target: { most: 0 },
  },
  {
    about:
      'on an H200, 8 streams while prompts of 8192 tokens arrive (Llama-3.1-8B): TBT p99 over that alone',
    file: 'gpu-schedulers',
    row: /^nexus, slack 1\.5: TBT while prompts arrive, p99, 8 streams, prompts of 8192$/,
    figure: 'ratio',
    target: { most: 1.5 },
  },
  {
    about: 'the same of chunked prefill',
    file: 'gpu-schedulers',
    row: /^chunked: TBT while prompts arrive, p99, 8 streams, prompts of 8192$/,
    figure: 'ratio',
  },
  {
    about: 'decode attention of 64 x 8192 tokens there, bf16: bytes a second over what PyTorch reaches',
    file: 'gpu-kernels',
    row: /^decodeAttention bf16 64 x 8192, against PyTorch$/,
    figure: 'ratio',
    target: { least: 0.85 },
  },
  {
    about: 'prefill attention of 8192 tokens: FLOP/s over what PyTorch reaches',
    file: 'gpu-kernels',
    row: /^prefillAttention bf16 8192 behind 0, against PyTorch$/,
    figure: 'ratio',
    target: { least: 0.85 },
  },
];

/** A table of the headlines that these results have a row for; nothing where they have none. */
export function renderHeadlines(results: readonly Results[]): string[] {
  const lines = headlines.flatMap((headline) => {
    const of = results.find(({ name }) => name === headline.file);
    const row = of?.rows.findLast(({ name }) => headline.row.test(name));
    const figure = row?.[headline.figure];
    if (!row || figure === null || figure === undefined) return [];
    const title = titleOf(headline.file);
    const cells = [headline.about, readable(figure), aim(headline, figure), `[${title}](#${anchor(title)})`];
    return [`| ${cells.join(' | ')} |`];
  });
  if (lines.length === 0) return [];
  const about =
    'Each is a row of a table below, with its target where one was set before anything was measured; a target that was missed ' +
    'says so.';
  return [
    '## At a glance',
    '',
    about,
    '',
    '| what | figure | target | table |',
    '| --- | ---: | --- | --- |',
    ...lines,
    '',
  ];
}

function aim({ target }: Headline, figure: number): string {
  if (!target) return '';
  const [words, reached] =
    'least' in target
      ? [`at least ${target.least}`, figure >= target.least]
      : [`at most ${target.most}`, figure <= target.most];
  return reached ? words : `${words}: missed`;
}
