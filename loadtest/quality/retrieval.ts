import { type Device, type Tokenizer, Want } from '../../engine/index.js';
import { makeRoom, read, withSlots } from '../device/workloads.js';
import { HeatMap } from './heat-map.js';
import { answerTokens, type RetrievalCase, type RetrievalPlan } from './retrieval-cases.js';

export interface Retrieval {
  readonly accuracy: HeatMap;
  /** In the order of the cases. */
  readonly answers: readonly (readonly number[])[];
}

/**
 * Asks one question after another, as a server would be: the prompt is read in chunks, the answer is decoded greedily
 * from what the cache then holds.
 */
export async function measureRetrieval(
  device: Device,
  cases: readonly RetrievalCase[],
  plan: RetrievalPlan,
  model: { readonly tokenizer: Tokenizer; readonly eosTokenIds: readonly number[] },
  onProgress: (done: number) => void,
): Promise<Retrieval> {
  const accuracy = new HeatMap(plan.contexts, plan.depths);
  const answers: number[][] = [];
  const ends = new Set(model.eosTokenIds);
  for (const { context, depth, prompt, value } of cases) {
    const answer = await answerTo(device, prompt, ends);
    answers.push(answer);
    accuracy.add(context, depth, says(model.tokenizer.decode(answer, { skipSpecial: true }), value));
    onProgress(answers.length / cases.length);
  }
  return { accuracy, answers };
}

/** Part of the answers that are the same, token for token. */
export function sameAnswers(one: Retrieval, other: Retrieval): number {
  const same = one.answers.filter((answer, index) => {
    const theirs = other.answers[index]!;
    return answer.length === theirs.length && answer.every((token, at) => token === theirs[at]);
  });
  return same.length / one.answers.length;
}

/** Whether the value stands in the text as a word of its own. */
export function says(text: string, value: string): boolean {
  return new RegExp(`(?<![\\p{L}\\p{N}])${value}(?![\\p{L}\\p{N}])`, 'iu').test(text);
}

/** Greedy, without what ended it. */
function answerTo(device: Device, prompt: Int32Array, ends: ReadonlySet<number>): Promise<number[]> {
  return withSlots(device, 1, async (slots) => {
    makeRoom(device, 0, prompt.length + answerTokens);
    device.partition(device.info.units);
    let [token] = (await read(device, 0, prompt, Want.sample)).tokens;
    device.partition(0);
    const answer: number[] = [];
    const step = {
      slots,
      counts: Int32Array.of(0),
      tokens: new Int32Array(),
      wants: Uint8Array.of(Want.sample),
    };
    while (!ends.has(token!)) {
      answer.push(token!);
      if (answer.length === answerTokens) break;
      [token] = (await device.decode.run(step)).tokens;
    }
    return answer;
  });
}
