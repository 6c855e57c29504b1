import type { ChatTemplate, GenerateRequest, GenerationDefaults, Tokenizer } from '../../engine/index.js';
import type { ImageMarkup } from '../images/image-markup.js';
import { ApiError, invalidRequest, type PartNames } from '../openai/errors.js';
import type { SharedBody } from '../openai/schemas.js';
import type { ToolCallFormatName } from '../tools/tool-call-format.js';

/** What turning a body into requests depends on; each thread that does it has its own. */
export interface PrepareContext {
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate | null;
  /** Whether it reads contents as lists of parts alone, not as texts. */
  readonly templateWantsParts: boolean;
  /** Absent where the model reads no images. */
  readonly markup: ImageMarkup | undefined;
  /** Of a request. */
  readonly maxImages: number;
  /** How the model writes tool calls, as far as its template shows a way that is known here. */
  readonly toolCallFormat: ToolCallFormatName | undefined;
  readonly defaults: GenerationDefaults;
  readonly model: string;
  readonly contextLength: number;
  /** Tokens that the model was trained on; less than the context length where sequences have no end. */
  readonly trainedLength: number;
  readonly maxChoices: number;
  /** Of a body: no more than may wait together. */
  readonly maxPrompts: number;
}

/** The fields that all bodies have in common. */
export function sharedFields(
  { defaults, tokenizer }: PrepareContext,
  body: SharedBody,
): Pick<
  GenerateRequest,
  | 'sampling'
  | 'minTokens'
  | 'stop'
  | 'stopTokenIds'
  | 'ignoreEos'
  | 'priority'
  | 'deadlineMs'
  | 'reportsKv'
  | 'kvPressure'
> {
  const logitBias = new Map(Object.entries(body.logit_bias ?? {}).map(([id, bias]) => [Number(id), bias]));
  const stopTokenIds = body.stop_token_ids ?? [];
  checkNamed(tokenizer, [...logitBias.keys()], 'logit_bias');
  checkNamed(tokenizer, stopTokenIds, 'stop_token_ids');
  const stop = typeof body.stop === 'string' ? [body.stop] : (body.stop ?? []);
  if (stop.includes('')) throw invalidRequest("'stop' cannot be an empty string.", 'stop');
  const deadlineMs = body.tandem?.deadline_ms;
  return {
    sampling: {
      temperature: body.temperature ?? defaults.temperature ?? 1,
      topP: body.top_p ?? defaults.topP ?? 1,
      topK: Math.max(0, body.top_k ?? defaults.topK ?? 0),
      minP: body.min_p ?? defaults.minP ?? 0,
      presencePenalty: body.presence_penalty ?? 0,
      frequencyPenalty: body.frequency_penalty ?? 0,
      repetitionPenalty: body.repetition_penalty ?? defaults.repetitionPenalty ?? 1,
      logitBias,
      ...(body.seed != null && { seed: BigInt(body.seed) }),
    },
    minTokens: body.min_tokens ?? 0,
    stop,
    stopTokenIds,
    ignoreEos: body.ignore_eos ?? false,
    priority: body.tandem?.priority ?? 0,
    ...(deadlineMs !== undefined && { deadlineMs }),
    ...(body.tandem?.kv && { reportsKv: true }),
    ...kvPressureOf(body),
  };
}

function checkNamed({ vocabSize }: Tokenizer, ids: readonly number[], param: string): void {
  const unknown = ids.find((id) => id >= vocabSize);
  if (unknown === undefined) return;
  throw invalidRequest(`'${param}' names token ${unknown}; the vocabulary has ${vocabSize} tokens.`, param);
}

function kvPressureOf({ tandem }: SharedBody): Pick<GenerateRequest, 'kvPressure'> {
  const asked = tandem?.kv_pressure ?? true;
  if (asked === true) return {};
  return { kvPressure: asked === false ? 'off' : asked };
}

export function checkModel({ model }: Pick<PrepareContext, 'model'>, asked: string | null | undefined): void {
  if (asked == null || asked === '' || asked === model) return;
  throw new ApiError(
    404,
    'invalid_request_error',
    `The model '${asked}' does not exist here; there is '${model}'.`,
    {
      param: 'model',
      code: 'model_not_found',
    },
  );
}

/** Throws `ApiError` where whoever speaks of a stream will not get one: as OpenAI does. */
export function checkStreamOptions(body: {
  readonly stream?: boolean | null | undefined;
  readonly stream_options?: object | null | undefined;
}): void {
  if (body.stream_options == null || body.stream) return;
  throw invalidRequest("'stream_options' needs 'stream' to be true.", 'stream_options');
}

/** Throws `ApiError` where an answer shall be longer than it may be. */
export function checkLeast(
  { min_tokens: least }: Pick<SharedBody, 'min_tokens'>,
  most: number,
  { maxTokens }: PartNames,
): void {
  if (least == null || least <= most) return;
  throw invalidRequest(
    `'min_tokens' of ${least} is greater than '${maxTokens}', which is ${most}.`,
    'min_tokens',
  );
}

/** The longest answer where the client sets no limit. */
export function defaultMaxTokens(
  { contextLength, trainedLength, defaults }: PrepareContext,
  promptTokens: number,
): number {
  // At least one, so that a prompt that fills the context is refused by the engine, with the numbers.
  return Math.max(1, Math.min(contextLength - promptTokens, defaults.maxNewTokens ?? trainedLength));
}
