import type { Ajv2020, ValidateFunction } from 'ajv/dist/2020.js';
import { compileGrammar, InvalidGrammar } from '../../engine/index.js';
import type { Rows } from '../rows.js';
import { AnswerTimes, type DecodeSteps } from './answer-times.js';
import { streamCompletion, type Trace } from './completion-stream.js';
import type { PromptSource } from './prompt-source.js';
import { readMetrics } from './read-metrics.js';
import type { NamedSchema } from './schemas.js';
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
/** Answers with known masks and free ones in turns: short as they are, one of each says little. */
const turns = 5;

interface Asked {
  readonly schema: NamedSchema;
  /** Draws what its answer is. */
  readonly seed: number;
}

interface Answer {
  readonly text: string;
  readonly trace: Trace;
}

/** Answers by schemas, and the free ones that they are compared with. */
class Compared {
  readonly structured = new AnswerTimes();
  readonly free = new AnswerTimes();

  addTo(rows: Rows, name: string): void {
    this.structured.addTo(rows, name, this.free);
  }
}

/**
 * What it costs to hold answers to schemas: the time of a decode step, between tokens and to the first token, against free
 * answers of the same lengths to the same prompt, as many at once, right before or behind them; and whether all that ended are
 * valid. Throws an Error if a request fails.
 */
export async function runStructured(
  target: Target,
  model: ServedModel,
  prompts: PromptSource,
  { schemas, count, streams }: StructuredPlan,
  rows: Rows,
): Promise<void> {
  const prompt = prompts.next(promptTokens);
  const { Ajv2020 } = await import('ajv/dist/2020.js');
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  const [started, first, known] = [new Compared(), new Compared(), new Compared()];
  let [ended, valid] = [0, 0];

  /** Asks for all of them at the same moment, and waits for the last one. */
  const ask = async (times: AnswerTimes, requests: readonly { maxTokens: number; more: object }[]) => {
    const before = await decodeSteps(target);
    const answers = await Promise.all(
      requests.map(async ({ maxTokens, more }): Promise<Answer> => {
        let text = '';
        const onPiece = (_: number, piece: string): void => {
          text += piece;
        };
        // Likely tokens alone, so that a small model comes to an end.
        const sampling = { temperature: 1, top_p: 0.8 };
        const request = { model: model.id, prompt, maxTokens, more: { ...sampling, ...more } };
        const trace = await streamCompletion(target, request, { onPiece });
        return { text, trace };
      }),
    );
    times.add(
      answers.map(({ trace }) => trace),
      before,
      await decodeSteps(target),
    );
    return answers;
  };
  const askStructured = async (times: AnswerTimes, asked: readonly Asked[]): Promise<Answer[]> => {
    const answers = await ask(
      times,
      asked.map(({ schema: { schema }, seed }) => {
        const format = { type: 'json_schema', json_schema: { name: 'answer', strict: true, schema } };
        return { maxTokens: outputTokens, more: { seed, response_format: format } };
      }),
    );
    for (const [i, { trace }] of answers.entries()) {
      if (trace.error !== undefined) throw new Error(`${asked[i]!.schema.name}: ${trace.error}`);
    }
    return answers;
  };
  const askFree = (times: AnswerTimes, asked: readonly Asked[], answers: readonly Answer[]) =>
    ask(
      times,
      answers.map(({ trace }, i) => ({
        maxTokens: trace.completionTokens,
        more: { seed: asked[i]!.seed },
      })),
    );

  const { followed, refused } = followedOf(schemas, count);
  // JavaScript's compiler takes cores until it has done with what reads schemas: once a server, and not for each schema.
  const others = followed.map(asItem).filter(({ schema }) => isFollowed(schema));
  for (const asked of inGroups(others, streams)) {
    await askFree(started.free, asked, await askStructured(started.structured, asked));
  }
  for (const asked of inGroups(followed, streams)) {
    const answers = await askStructured(first.structured, asked);
    await askFree(first.free, asked, answers);
    for (let turn = 0; turn < turns; turn += 1) {
      const repeated = await askStructured(known.structured, asked);
      await askFree(known.free, asked, answers);
      for (const [i, { text }] of repeated.entries()) {
        if (text !== answers[i]!.text) {
          throw new Error(`${asked[i]!.schema.name}: the same request had two answers`);
        }
      }
    }
    for (const [i, { text, trace }] of answers.entries()) {
      if (trace.completionTokens === outputTokens) continue;
      ended += 1;
      if (validatorOf(ajv, asked[i]!.schema.schema)(JSON.parse(text))) valid += 1;
    }
  }

  rows.add('schemas that were followed', followed.length, 'schemas');
  rows.add('schemas that were refused, for what cannot be enforced', refused, 'schemas');
  rows.add('answers that ended within their limit', ended, 'answers');
  rows.add('of these valid', valid, 'answers', ended);
  started.addTo(rows, 'after the start, first answers of other schemas');
  first.addTo(rows, 'first answer of each schema');
  known.addTo(rows, 'the same again');
}

function* inGroups(asked: readonly Asked[], size: number): Generator<readonly Asked[]> {
  for (let begin = 0; begin < asked.length; begin += size) yield asked.slice(begin, begin + size);
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

async function decodeSteps(target: Target): Promise<DecodeSteps> {
  const metrics = await readMetrics(target);
  const value = (name: string) => metrics.get(`tandem:${name}{lane="decode"}`) ?? Number.NaN;
  return { seconds: value('lane_busy_seconds_total'), steps: value('steps_total') };
}
