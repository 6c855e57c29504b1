import type { Device, Tokenizer } from '../../engine/index.js';
import { randomPrompt } from '../device/prompts.js';
import { Divergence } from './divergence.js';
import { bytesPerToken } from './footprint.js';
import { logProbabilities } from './log-probabilities.js';
import { Perplexity } from './perplexity.js';
import { measureRetrieval, type Retrieval, sameAnswers } from './retrieval.js';
import type { RetrievalCase, RetrievalPlan } from './retrieval-cases.js';
import { measureStepTimes, type StepTimes, type TimingPlan } from './step-times.js';
import { teacherForce } from './teacher-forcing.js';

export interface QualityPlan {
  readonly windows: readonly Int32Array[];
  readonly retrieval: RetrievalPlan;
  readonly cases: readonly RetrievalCase[];
  readonly timing: TimingPlan;
  readonly model: { readonly tokenizer: Tokenizer; readonly eosTokenIds: readonly number[] };
}

/** What one cache policy costs and saves. */
export interface QualityFigures {
  readonly policy: string;
  readonly perplexity: number;
  readonly retrieval: Retrieval;
  readonly bytesPerToken: number;
  /** Absent where none were asked for. */
  readonly times?: StepTimes | undefined;
}

/** The same beside the exact cache. */
export interface ComparedFigures extends QualityFigures {
  readonly divergence: Divergence;
  /** Part of the answers that are the exact cache's, token for token. */
  readonly sameAnswers: number;
  /** Measured in turns with `times`. */
  readonly exactTimes?: StepTimes | undefined;
}

/** Told how far a measure is, from 0 to 1. */
export type OnProgress = (measure: string, done: number) => void;

export async function measureExact(
  policy: string,
  device: Device,
  plan: QualityPlan,
  onProgress: OnProgress,
): Promise<QualityFigures> {
  const perplexity = new Perplexity();
  await teacherForce(
    [device],
    plan.windows,
    ({ next, logits }) => perplexity.add(logProbabilities(logits[0]!), next),
    (done) => onProgress('text', done),
  );
  const [times] = await measureStepTimes([device], plan.timing);
  return {
    ...(await measureAlone(policy, device, plan, onProgress)),
    perplexity: perplexity.value,
    times,
  };
}

export async function measureBesideExact(
  policy: string,
  device: Device,
  exact: { readonly device: Device; readonly figures: QualityFigures },
  plan: QualityPlan,
  onProgress: OnProgress,
): Promise<ComparedFigures> {
  const perplexity = new Perplexity();
  const divergence = new Divergence();
  await teacherForce(
    [exact.device, device],
    plan.windows,
    ({ position, next, logits }) => {
      const [theirs, own] = logits.map(logProbabilities);
      perplexity.add(own!, next);
      divergence.add(position, theirs!, own!);
    },
    (done) => onProgress('text', done),
  );
  const [exactTimes, times] = await measureStepTimes([exact.device, device], plan.timing);
  const alone = await measureAlone(policy, device, plan, onProgress);
  return {
    ...alone,
    perplexity: perplexity.value,
    times,
    divergence,
    sameAnswers: sameAnswers(exact.figures.retrieval, alone.retrieval),
    exactTimes,
  };
}

async function measureAlone(policy: string, device: Device, plan: QualityPlan, onProgress: OnProgress) {
  const { cases, retrieval, timing, model } = plan;
  const { pageTokens } = device.kv;
  // Full pages, so that the figure is of tokens and not of the room that is left in the last page.
  const tokens = Math.floor(timing.context / pageTokens) * pageTokens;
  return {
    policy,
    retrieval: await measureRetrieval(device, cases, retrieval, model, (done) =>
      onProgress('questions', done),
    ),
    bytesPerToken: await bytesPerToken(device, randomPrompt(tokens - 1, device.info.spec.vocab, timing.seed)),
  };
}
