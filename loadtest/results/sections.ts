import { layerRow } from '../prefill/figure-rows.js';
import { cellRow } from '../quality/figure-rows.js';
import type { Row } from '../rows.js';
import { sampleRow } from '../soak/figures.js';

/** One file of rows: its name without folder and ending, and what is in it. */
export interface Results {
  readonly name: string;
  readonly rows: readonly Row[];
}

/** What stands above the tables of a file of rows. */
export interface Section {
  readonly title: string;
  readonly about: string;
  /** Drawings by `renderPlots` from the same rows, and of what. */
  readonly plots?: readonly (readonly [file: string, alt: string])[];
  /** Rows that a plot shows, and the table leaves out. */
  readonly drawn?: RegExp;
}

/** Titles and explanations of the files in docs/results, in the order of the page. */
export const sections: Readonly<Record<string, Section>> = {
  peer: {
    title: 'Against llama.cpp',
    about:
      'The same random weights, read by Tandem and by node-llama-cpp, each in its own process, in turns. Baseline is ' +
      'llama.cpp; a ratio above 1 is in favour of Tandem.',
  },
  'peer-int8': {
    title: 'Against llama.cpp, int8 weights',
    about:
      'The same random weights in the shape of Llama-3.2-1B, prompts of 512 and 2048 tokens, 32 tokens generated; read by ' +
      'Tandem and by node-llama-cpp, each in its own process, in turns. Baseline is llama.cpp; a ratio above 1 is in ' +
      'favour of Tandem.',
  },
  'peer-bf16': {
    title: 'Against llama.cpp, bf16 weights',
    about:
      'As above. Without AMX there is little to win: these two cores multiply 850 Gflop/s of bf16 out of registers ' +
      '(`bench-matmul`), which is 435 tokens a second of this model, and llama.cpp reaches a part of it too.',
  },
  'peer-quick': {
    title: 'Against llama.cpp, at a glance',
    about: 'The short form, `--quick`.',
  },
  'peer-avx2': {
    title: 'Against llama.cpp, on processors with AVX2',
    about:
      'The short form on the shape of Llama-3.2-1B. Both sides compute with no more than AVX2, FMA and F16C (`--isa avx2`, ' +
      "llama.cpp's build for `haswell`), which is what AMD's processors before Zen 4 have, and Intel's before 2021 or " +
      'in desktops of a smaller kind. The machine is one that has nothing more (Zen 3), not that of the other tables.',
  },
  'peer-int4-avx2': {
    title: 'Against llama.cpp, int4 weights, on processors with AVX2',
    about:
      'As above, with weights of 4 bits, 4.5 with their scales on both sides. Random weights that were rounded so far are no ' +
      'longer the same function on both, so their logits agree less than with 8 bits.',
  },
  'peer-avx-vnni': {
    title: 'Against llama.cpp, on processors with AVX-VNNI',
    about:
      'As above with int8 weights, and with products of bytes in vectors of 256 bits (`alderlake`): ' +
      "Intel's desktops and laptops since 2021. The machine has more than that: one that has not may differ.",
  },
  'peer-avx512-vnni': {
    title: 'Against llama.cpp, on processors with AVX-512 but without BF16',
    about:
      'As above, with vectors of 512 bits (`icelake`): Cascade Lake, Ice Lake, Tiger Lake and Rocket Lake. The machine has ' +
      'more than that: one that has not may differ.',
  },
  engine: {
    title: 'The engine alone',
    about: 'Steps on the device without HTTP, scheduling or tokenizing, all cores on one lane.',
  },
  attention: {
    title: 'Attention on the processor',
    about:
      'Heads as Llama-3 has them (32, on 8 KV heads of 128), but where 32 KV heads are named. Decode in bytes of pages read; ' +
      'baseline is bf16 pages, so a ratio ' +
      'is the part of what a class saves in bytes that it saves in time. The smaller the codes, the more they are bound by ' +
      'their products, which are as many whatever the class ' +
      '([why, and by how much](kv-cache.md#how-fast-attention-reads-them)).',
  },
  'attention-avx2': {
    title: 'Attention on processors with AVX2',
    about: 'As above, on a processor that has nothing more (Zen 3); baseline is what bf16 pages reach there.',
  },
  'attention-avx-vnni': {
    title: 'Attention on processors with AVX-VNNI',
    about: 'As above, with `--isa avx-vnni`.',
  },
  growth: {
    title: 'How cost grows',
    about: 'Time of a decode step, and of a prefill chunk, over context length and running sequences.',
  },
  'calibrate-demo': {
    title: 'The cost model: the demo model',
    about:
      'Error of foreseen step times, on steps held out from the fit; baseline is the preset. Other programs disturbed ' +
      'some of the runs.',
  },
  'calibrate-1b': {
    title: 'The cost model: the shape of Llama-3.2-1B',
    about: 'As above.',
  },
  quality: {
    title: 'What a KV cache costs in quality',
    about:
      'The demo model under each `--kv`, under `zip` with other values of tau, and under what others ' +
      'do: eviction by attention (`evict`), a sink and a window (`window`), all exact pages of so many percent ' +
      '([what the figures mean](quality.md)). Baseline is the exact cache. The maps show right answers in percent, by ' +
      'length of the text and by where in it the fact stood.',
    plots: [
      ['quality-answers.svg', 'right answers against bytes of a token'],
      ['quality-divergence.svg', 'KL divergence against bytes of a token'],
      ['quality-maps.svg', 'right answers by context length and depth'],
    ],
    drawn: cellRow,
  },
  'quality-600': {
    title: 'What a KV cache costs in quality: three times as many questions',
    about:
      'As above, on fewer stretches of text, and with 24 questions for each length and place instead of 8: 600 in all, of which ' +
      'one is a sixth of a point.',
    drawn: cellRow,
  },
  'sessions-million': {
    title: 'Endless sessions',
    about:
      'One conversation of the demo model under `--kv pack` ([what it is](kv-cache.md#pack-sequences-without-an-end)): text is ' +
      'read on one core, and facts that it told are asked for. Baseline is the stretch in which the last of the partitions ' +
      'becomes full. The model was trained on 2048 tokens; sink, mid and recent hold 17,000, and what is further back is dropped.',
  },
  'sessions-far': {
    title: 'Endless sessions with far tokens',
    about:
      'As above, with `--pack-far-tokens 114688`: between sink and recent a sequence holds 131,072 tokens, of which KV memory has ' +
      'the newest 16,384, and of the others the outlines ([what that is](kv-cache.md#far-tokens)). What is dropped is further ' +
      'back than all that is asked for. Each token passes by the outlines of all far pages, so on a processor steps become ' +
      'longer until far is full.',
  },
  summaries: {
    title: 'Summaries of pages that are not selected',
    about:
      'Held-out text of the demo model, read in float64 with the attention of `--kv pack` in partitions so small that most of a ' +
      'window of 2048 tokens is not selected: sink 32, recent 128, and 4 pages of 32 tokens for each row ' +
      '([what they say](kv-cache.md#summaries)). Perplexity counts the tokens that do not see everything; its baseline is ' +
      'full attention. Errors are those of what the heads read, for the same inputs, in percent of its size; their baseline is ' +
      'selected pages alone.',
  },
  concurrency: {
    title: 'More sequences in the same memory',
    about:
      'The server with the demo model and the same `--kv-memory` under each `--kv`, and `zip` at other values of tau ' +
      '(`zip-0.975`), loaded by more clients than have room, each with one request at a time, whose prompt is a stretch of a text. Sequences at ' +
      'once are those that have a slot and their KV on the device: no waiting request and none that gave way. Their median and ' +
      'mean, and what the memory is taken by on average, are those from the end of the first answer on while requests wait; the rest of the ' +
      'memory is free. TTFT counts from when a client asked, so it holds the wait for room. Baseline is the exact cache.',
  },
  'prefill-demo': {
    title: 'Sparse prefill: the demo model',
    about:
      "Prompts of the longest context, read with `--prefill-tau` and without, in turns; the text is the model's held-out " +
      'one ([how](quality.md#sparse-prefill)). Baseline is dense prefill. The end of a text is its last stretch, whose rows ' +
      'look everywhere, as those of an answer do.',
    plots: [
      ['prefill-speed-up.svg', 'speed-up against the part of the tokens that rows attend to'],
      ['prefill-kept.svg', 'older pages that each layer looks at'],
    ],
    drawn: layerRow,
  },
  'prefill-1b-16k': {
    title: 'Sparse prefill: 16384 tokens, the shape of Llama-3.2-1B',
    about:
      'As above, one turn each, random tokens. Weights are random too, and look nearly everywhere alike: how much a tau ' +
      'keeps here says nothing of a trained model, what it costs to attend to so much does. Other programs disturbed the turns ' +
      'at 0.9 and 0.5, whose matmuls took 10% and 24% longer for the same work.',
    drawn: layerRow,
  },
  'prefill-1b-32k': {
    title: 'Sparse prefill: 32768 tokens, the shape of Llama-3.2-1B',
    about: 'As above, with nothing else running.',
    drawn: layerRow,
  },
  'kv-heads': {
    title: 'What fewer KV heads cost in quality',
    about:
      'The demo model and what `tandem convert kv-heads` made of it at `--keep` 0.5 (`half`) and 0.25 (`quarter`), all with ' +
      'an exact cache ([how](convert.md)). In `half-index` neighbours share and not the most similar heads; `-mean` are ' +
      'averages of neighbours. Nothing was trained.',
    drawn: cellRow,
  },
  schedulers: {
    title: 'Schedulers against each other',
    about:
      'Streams run alone, then while long prompts arrive one after another, on a server of its own for each scheduler, ' +
      'in turns; medians over the turns. TBT beside prompts: baseline is the same streams alone. TTFT: baseline is ' +
      'prefill-first, which reads a prompt as fast as the device can and lets the streams wait. Constants were ' +
      'calibrated with `tandem calibrate` for the model before.',
  },
  'schedulers-slack': {
    title: 'The trade-off that nexus offers',
    about:
      'As above, with nexus at several values of `--decode-slack`: how much longer the time between tokens may get ' +
      'while prompts are read.',
  },
  'trace-conv-1b': {
    title: 'A recorded chat load, the shape of Llama-3.2-1B',
    about:
      "Azure's trace of conversations (2023), its first requests with a quarter of their tokens, at a pace that two cores " +
      'carry: replayed for each scheduler on a server of its own, and in the simulator by the calibrated constants ' +
      '([how](simulator.md)). Baseline is prefill-first with the shortest prompt first; of what is simulated, the same ' +
      'figure measured.',
  },
  'trace-code-1b': {
    title: 'A recorded load of code completions, the shape of Llama-3.2-1B',
    about: "As above, Azure's trace of code completions: long prompts, short answers.",
  },
  'trace-mooncake-demo': {
    title: 'A recorded load with shared prefixes, the demo model',
    about:
      "As above, Mooncake's trace of conversations, whose prompts begin alike, with a twentieth of their tokens. Steps take " +
      'less than a millisecond here, so what the host does between them, which the simulator leaves out, is most of a token.',
  },
  'schedulers-preset': {
    title: 'Without calibration',
    about:
      'nexus with the constants of the preset that is nearest to the machine, as it runs before `tandem calibrate`.',
  },
  'load-step': {
    title: 'A load that changes',
    about:
      'Running streams beside short prompts, then long ones, and back. TBT of a phase: baseline is the first phase of its ' +
      'kind.',
  },
  'serve-mixed': {
    title: 'Running streams while long prompts arrive',
    about:
      'Time between tokens (TBT) of running streams; baseline is the same streams with nothing else to do.',
  },
  'serve-large-body': {
    title: 'Running streams while a large body is read',
    about:
      'Time between tokens (TBT) of running streams; baseline is the same streams with nothing else to do.',
  },
  'serve-requests': {
    title: 'Requests per second',
    about:
      'Completions of one token over keep-alive connections; the load generator takes its part of the cores.',
  },
  'serve-sockets': {
    title: 'Streams beside sockets that are idle',
    about:
      'Time between tokens (TBT) of streams over WebSockets, one a socket, alone, beside sockets that are open and ask for ' +
      'nothing, and alone again; baseline is the first of the three. The load generator takes its part of the cores; the two ' +
      'seconds at the end are its own, in which it sorted all times before it went on to read (it stops the streams for ' +
      'that since).',
  },
  'serve-structured': {
    title: 'Answers that follow a schema',
    about:
      'Answers by schemas of the JSON Schema Test Suite, as many at once as the command says, all asked for at the same moment. ' +
      'Baseline is free answers to the same prompt that are asked for in the same way and are as long, right behind them, so ' +
      'that as many streams begin, run and end together, and the machine is the same. The first answers of the schemas come ' +
      'first; then the same requests again, whose masks are known by then, five times, each followed by the free ones. Before ' +
      'them the server, which has just started, answers by other schemas: each of these as the only item of an array. Each ' +
      'answer that ended was validated with ajv.',
  },
  'serve-structured-1b': {
    title: 'Answers that follow a schema, the shape of Llama-3.2-1B',
    about:
      'As above, with 128k tokens to choose from; fewer schemas, since a step takes a hundred times as long.',
  },
  soak: {
    title: 'For long',
    about:
      'A mix of streams over HTTP and sockets, streams that are left in the middle, responses and structured output. Baseline is ' +
      'the third of the time before the last one.',
    plots: [
      ['soak-memory.svg', 'memory over time'],
      ['soak-tbt.svg', 'time between tokens over time'],
      ['soak-ttft.svg', 'time to first token over time'],
    ],
    drawn: sampleRow,
  },
  serve: { title: 'Under load', about: 'Streaming clients over HTTP.' },
  'simulate-paper': {
    title: "Simulated: the Nexus paper's setups with one GPU",
    about:
      'Virtual time on a simulated L20 ([how](simulator.md)). Rate carried: the highest at which nine tenths of the ' +
      'requests met the objectives, those of the mean time per token (TPOT) or of every one (TBT). Baseline is `chunked` ' +
      'in order of arrival with 2048 tokens a step, or with 512 where every TBT counts, unless the name says otherwise. ' +
      'A step of 2048 tokens takes longer than the TBT allows, so there a ratio to it says nothing. Whoever moves the ' +
      'split is told the objectives; `disaggregated` has two devices.',
  },
  'simulate-ablation': {
    title: 'Simulated: what each part of nexus is worth',
    about: 'Baseline is nexus with all its parts. Llama-3.1-8B on a simulated L20, mixed load.',
  },
  'simulate-load-step': {
    title: 'Simulated: chat, long prompts, chat',
    about: 'How the split follows a load that changes. Baseline is `chunked` with shortest prompt first.',
  },
  'simulate-plan': {
    title: 'Simulated: what one device carries',
    about:
      'Llama-3.1-8B, chat (sharegpt). What a smaller KV cache would change: `what-if` says what it would be worth if it ' +
      'cost neither time nor quality.',
  },
};

/** In a folder of their own beside reports that are no rows; see native/gpu-check.sh and native/gpu-serve.sh. */
export const gpuSections: Readonly<Record<string, Section>> = {
  'gpu-kernels': {
    title: 'On a GPU: kernels',
    about:
      'Each kernel against what PyTorch reaches for the same shape in the same run (its matmuls are of bf16 weights, its ' +
      "attention reads K and V in one piece), or against the device's own copy bandwidth, read and written. " +
      '`decodeAttention`, `prefillAttention`, `requantize`, `selectPages`, here and within `attendPartitions`, and ' +
      '`outlinePages` are of the form before the present one, which is compiled and not yet run on a GPU ([what has changed](cuda.md#attention)).',
  },
  'gpu-lanes': {
    title: 'On a GPU: prefill beside decode',
    about:
      'Steps of four layers of Llama-3.1-8B on both lanes at once, on two streams of the whole device and on disjoint SMs ' +
      '([how](nexus.md)). Baseline is the same step with the same SMs, and nothing beside it.',
  },
  'gpu-sessions': {
    title: 'On a GPU: an endless session with far tokens',
    about:
      'One conversation of the demo model under `--kv pack` ([what it is](kv-cache.md#pack-sequences-without-an-end)), with ' +
      '[far tokens](kv-cache.md#far-tokens) whose pages host memory holds. Baseline is the stretch in which the last of the ' +
      'partitions becomes full.',
  },
  'gpu-concurrency': {
    title: 'On a GPU: more sequences in the same memory',
    about:
      'The server with the demo model and the same `--kv-memory` under `--kv exact` and `zip`, and `exact` under ' +
      '`--kv-pressure pack` (`exact-pack`, [what that does](kv-cache.md#when-memory-is-short)), loaded by more clients than have ' +
      'room. Median, mean and what the memory is taken by are those while requests wait. Baseline is the exact cache.',
  },
  'gpu-calibrate': {
    title: 'On a GPU: the cost model',
    about: 'Error of foreseen step times, on steps held out from the fit; baseline is the preset.',
  },
  'gpu-schedulers': {
    title: 'On a GPU: schedulers against each other',
    about:
      "The server with a random model of Llama-3.1-8B's shape, one turn each. Streams run alone, then while long prompts " +
      'arrive one after another. TBT beside prompts: baseline is the same streams alone. TTFT: baseline is prefill-first.',
  },
};

/** Of a file's section; a file that has none is shown under its name. */
export function titleOf(file: string): string {
  return (sections[file] ?? gpuSections[file])?.title ?? file;
}

/** What a link to a heading ends in, as Markdown pages have it. */
export function anchor(title: string): string {
  return title
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');
}
