import { setTimeout } from 'node:timers/promises';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { compileGrammar, InvalidGrammar } from '../../engine/index.js';
import type { Rows } from '../rows.js';
import { distributionOf } from '../statistics.js';
import { streamCompletion, type Trace } from './completion-stream.js';
import type { PromptSource } from './prompt-source.js';
import { readMetrics } from './read-metrics.js';
import type { NamedSchema } from './schemas.js';
import { gapsOf, ttftOf } from './slo.js';
import { addGaps } from './stream-rows.js';
import type { ServedModel, Target } from './target.js';

export interface StructuredPlan {
  /** Drawn from until so many can be followed. */
  readonly schemas: readonly NamedSchema[];
  readonly count: number;
  /** Answers at once. */
  readonly streams: number;
}

/** Tokens of the one prompt that all answers have. */
const promptTokens = 32;
/** Of an answer at most. */
const outputTokens = 160;
/** Free answers and structured ones in turns: short as they are, one of each says little. */
const turns = 5;

interface Asked {
  readonly schema: NamedSchema;
  /** Draws what its answer is. */
  readonly seed: number;
}

interface Request {
  readonly maxTokens: number;
  readonly more: object;
  /** Behind the others'. */
  readonly delayMs?: number;
}

interface Answer {
  readonly text: string;
  readonly trace: Trace;
}

/** Steps of decode and what came of them, summed over a kind of answers. */
class Spent {
  seconds = 0;
  steps = 0;
  readonly gaps: number[] = [];
  readonly firstTokens: number[] = [];

  get stepMs(): number {
    return (this.seconds / this.steps) * 1000;
  }
}

/**
 * What it costs to hold answers to schemas: the time of a decode step and between tokens, against free answers of the same
 * lengths that begin as far apart; and whether all that ended are valid. Throws an Error if a request fails.
 */
export async function runStructured(
  target: Target,
  model: ServedModel,
  prompts: PromptSource,
  { schemas, count, streams }: StructuredPlan,
  rows: Rows,
): Promise<void> {
  const prompt = prompts.next(promptTokens);
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  const started = new Spent();
  const first = new Spent();
  const free = new Spent();
  const again = new Spent();
  let [ended, valid] = [0, 0];

  const ask = async (spent: Spent, requests: readonly Request[]) => {
    const before = await decodeSteps(target);
    const answers = await Promise.all(
      requests.map(async ({ maxTokens, more, delayMs }): Promise<Answer> => {
        if (delayMs) await setTimeout(delayMs);
        let text = '';
        const onPiece = (_: number, piece: string): void => {
          text += piece;
        };
        const request = { model: model.id, prompt, maxTokens, more: { temperature: 1, ...more } };
        const trace = await streamCompletion(target, request, { onPiece });
        return { text, trace };
      }),
    );
    const after = await decodeSteps(target);
    spent.seconds += after.seconds - before.seconds;
    spent.steps += after.steps - before.steps;
    for (const { trace } of answers) {
      spent.gaps.push(...gapsOf(trace));
      spent.firstTokens.push(...ttftOf(trace));
    }
    return answers;
  };
  const structured = ({ schema: { schema }, seed }: Asked) => ({
    maxTokens: outputTokens,
    more: {
      seed,
      // Likely tokens alone, so that a small model comes to an end.
      top_p: 0.8,
      response_format: { type: 'json_schema', json_schema: { name: 'answer', strict: true, schema } },
    },
  });

  const { followed, refused } = followedOf(schemas, count);
  // JavaScript's compiler takes cores until it has done with what reads schemas: once a server, and not for each schema.
  const others = followed.map(asItem).filter(({ schema }) => isFollowed(schema));
  for (let begin = 0; begin < others.length; begin += streams) {
    await ask(started, others.slice(begin, begin + streams).map(structured));
  }
  for (let begin = 0; begin < followed.length; begin += streams) {
    const asked = followed.slice(begin, begin + streams);
    const answers = await ask(first, asked.map(structured));
    const lengths = answers.map(({ trace }, i) => {
      if (trace.error !== undefined) throw new Error(`${asked[i]!.schema.name}: ${trace.error}`);
      return trace.completionTokens;
    });
    // They began one after another, as their schemas were compiled, and a step takes longer while a prompt is read.
    const begins = answers.map(({ trace }) => ttftOf(trace)[0] ?? 0);
    const delays = begins.map((ms) => ms - Math.min(...begins));
    for (let turn = 0; turn < turns; turn += 1) {
      await ask(
        free,
        lengths.map((maxTokens, i) => ({
          maxTokens,
          more: { seed: asked[i]!.seed, top_p: 0.8 },
          delayMs: delays[i]!,
        })),
      );
      const repeated = await ask(
        again,
        asked.map((one, i) => ({ ...structured(one), delayMs: delays[i]! })),
      );
      for (const [i, { text }] of repeated.entries()) {
        if (text !== answers[i]!.text) {
          throw new Error(`${asked[i]!.schema.name}: the same request had two answers`);
        }
      }
    }
    for (const [i, { text }] of answers.entries()) {
      if (lengths[i] === outputTokens) continue;
      ended += 1;
      if (validatorOf(ajv, asked[i]!.schema.schema)(JSON.parse(text))) valid += 1;
    }
  }

  rows.add('schemas that were followed', followed.length, 'schemas');
  rows.add('schemas that were refused, for what cannot be enforced', refused, 'schemas');
  rows.add('answers that ended within their limit', ended, 'answers');
  rows.add('of these valid', valid, 'answers', ended);
  rows.add('decode step, free answers', free.stepMs, 'ms');
  rows.add('decode step, after the start, first answers of other schemas', started.stepMs, 'ms', free.stepMs);
  rows.add('decode step, first answer of each schema', first.stepMs, 'ms', free.stepMs);
  rows.add('decode step, the same again', again.stepMs, 'ms', free.stepMs);
  const gaps = distributionOf(free.gaps);
  addGaps(rows, 'TBT, free answers', gaps);
  addGaps(rows, 'TBT, first answer of each schema', distributionOf(first.gaps), gaps);
  addGaps(rows, 'TBT, the same again', distributionOf(again.gaps), gaps);
  // What is done before a first answer begins is done with what the others leave.
  const firstTokens = distributionOf(free.firstTokens);
  addGaps(rows, 'TTFT, free answers', firstTokens);
  addGaps(
    rows,
    'TTFT, after the start, first answers of other schemas',
    distributionOf(started.firstTokens),
    firstTokens,
  );
  addGaps(rows, 'TTFT, first answer of each schema', distributionOf(first.firstTokens), firstTokens);
  addGaps(rows, 'TTFT, the same again', distributionOf(again.firstTokens), firstTokens);
}

/** The first schemas that can be followed. Found before anything is measured: what compiles them takes cores too. */
function followedOf(
  schemas: readonly NamedSchema[],
  count: number,
): { followed: readonly Asked[]; refused: number } {
  const followed: Asked[] = [];
  let refused = 0;
  for (const [index, schema] of schemas.entries()) {
    if (followed.length === count) break;
    if (isFollowed(schema)) followed.push({ schema, seed: index + 1 });
    else refused += 1;
  }
  return { followed, refused };
}

/** Another schema, as much work to follow, of which nothing is known when the schema itself is asked for. */
function asItem({ schema: { name, schema }, seed }: Asked): Asked {
  return {
    schema: { name, schema: { type: 'array', prefixItems: [schema], minItems: 1, items: false } },
    seed,
  };
}

/** Whether all of it can be enforced. Asked here and not of the server, which would know its masks from then on. */
function isFollowed({ schema }: NamedSchema): boolean {
  try {
    compileGrammar({ type: 'schema', schema, lenient: false });
    return true;
  } catch (error) {
    if (error instanceof InvalidGrammar) return false;
    throw error;
  }
}

function validatorOf(ajv: Ajv2020, schema: unknown): ValidateFunction {
  if (typeof schema !== 'object') return ajv.compile(schema as boolean);
  // Ids are the same for many, and name places of their own.
  const { $id: _, $schema: __, ...anonymous } = schema as Record<string, unknown>;
  return ajv.compile(anonymous);
}

async function decodeSteps(target: Target): Promise<{ seconds: number; steps: number }> {
  const metrics = await readMetrics(target);
  const value = (name: string) => metrics.get(`tandem:${name}{lane="decode"}`) ?? Number.NaN;
  return { seconds: value('lane_busy_seconds_total'), steps: value('steps_total') };
}
