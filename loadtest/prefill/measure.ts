import { type Device, operatorClasses, SparsePrefill } from '../../engine/index.js';
import { type PackedDevice, packedDevice } from '../device/packed-device.js';
import { prefill } from '../device/workloads.js';
import type { QualityPlan } from '../quality/measure.js';
import { measureRetrieval } from '../quality/retrieval.js';
import type { RetrievalCase, RetrievalPlan } from '../quality/retrieval-cases.js';
import { median } from '../statistics.js';
import { promptPerplexities, type RowRange } from './prompt-perplexity.js';
import { type PrefillRecord, WatchedDevice } from './watched-device.js';

/** Prompts of one length. */
export interface PrefillPlan {
  readonly prompt: ArrayLike<number>;
  /** Each is compared with 1, where all rows look everywhere. */
  readonly taus: readonly number[];
  readonly repetitions: number;
  /** Texts of that length whose perplexity is measured; none: it is not. */
  readonly texts: readonly Int32Array[];
  /** The rows that tau is for; those behind them look everywhere, as the rows of an answer do. */
  readonly sparseRows: RowRange;
  /** Questions of that length; absent: none. */
  readonly questions?: {
    readonly cases: readonly RetrievalCase[];
    readonly plan: RetrievalPlan;
    readonly model: QualityPlan['model'];
  };
}

/** What it is to read a prompt at one tau. Times are medians, in seconds. */
export interface PrefillFigures extends PrefillRecord {
  readonly tau: number;
  readonly seconds: number;
  /** Of the rows that tau is for, and of those behind them. */
  readonly perplexity?: { readonly sparseRows: number; readonly end: number };
  /** From 0 to 1. */
  readonly rightAnswers?: number;
}

/** A way to read prompts. */
type Reader = Device & Partial<PackedDevice>;

/** Tokens that are read before anything is timed. */
const warmUpTokens = 1024;

/**
 * The first figures are those of dense prefill. All ways to read the prompt take turns, A B C A B C ...; `beforeTurn` is
 * waited for in front of each, `onTurn` sees its seconds.
 */
export async function measurePrefill(
  device: Device,
  plan: PrefillPlan,
  beforeTurn: (tau: number) => Promise<void>,
  onTurn: (tau: number, seconds: number) => void,
): Promise<PrefillFigures[]> {
  const watched = new WatchedDevice(device);
  const ways = [1, ...plan.taus].map((tau) => ({
    tau,
    reader: readerAt(tau, watched.device),
    turns: [] as (PrefillRecord & { readonly seconds: number })[],
  }));
  await prefill(device, Array.from(plan.prompt).slice(0, warmUpTokens));
  for (let turn = 0; turn < plan.repetitions; turn += 1) {
    for (const { tau, reader, turns } of ways) {
      await beforeTurn(tau);
      const seconds = await prefill(reader, plan.prompt);
      turns.push({ seconds, ...watched.take() });
      onTurn(tau, seconds);
    }
  }
  const figures: PrefillFigures[] = [];
  for (const { tau, reader, turns } of ways) {
    const { attended, keptByLayer } = turns[0]!;
    figures.push({
      tau,
      attended,
      keptByLayer,
      seconds: median(turns.map(({ seconds }) => seconds)),
      opSeconds: Object.fromEntries(
        operatorClasses.map((name) => [name, median(turns.map(({ opSeconds }) => opSeconds[name]))]),
      ) as PrefillRecord['opSeconds'],
      ...(await measureLoss(reader, plan)),
    });
  }
  return figures;
}

function readerAt(tau: number, device: Device): Reader {
  if (tau >= 1) return device;
  return packedDevice(device, {
    sparse: new SparsePrefill(tau, device.info.spec.layers, device.kv.pageTokens),
  });
}

async function measureLoss(
  reader: Reader,
  { prompt, texts, sparseRows, questions }: PrefillPlan,
): Promise<Pick<PrefillFigures, 'perplexity' | 'rightAnswers'>> {
  const ranges = [sparseRows, { begin: sparseRows.end, end: prompt.length }];
  const [inside, end] = texts.length > 0 ? await promptPerplexities(reader, texts, ranges) : [];
  const found =
    questions && (await measureRetrieval(reader, questions.cases, questions.plan, questions.model, () => {}));
  return {
    ...(inside !== undefined && { perplexity: { sparseRows: inside, end: end! } }),
    ...(found && { rightAnswers: found.accuracy.accuracy() }),
  };
}
