import type { TokenLogprob, Usage } from '../engine/index.js';
import { answerTokens, promptTokens } from './echo.js';
import type { Answer, ToolCall } from './openai/wire-format.js';
import type { Prepared, PreparedPrompt } from './prepare/prepared.js';
import type { AnswerEvent, ToolCallDelta } from './tools/tool-call-events.js';

interface Choice {
  text: string;
  toolCalls: ToolCall[];
  logprobs: TokenLogprob[];
  finishReason: string;
}

/** Gathers a prompt's events into whole answers, for clients that do not stream. */
export class AnswerCollector {
  readonly #choices: Choice[];
  /** Where the prompt is echoed. */
  #promptTokens: readonly TokenLogprob[] = [];
  usage: Usage | undefined;

  constructor(
    private readonly prepared: Prepared,
    private readonly prompt: PreparedPrompt,
    private readonly promptIndex: number,
  ) {
    this.#choices = Array.from({ length: prompt.request.n }, () => ({
      text: '',
      toolCalls: [],
      logprobs: [],
      finishReason: 'stop',
    }));
  }

  add(event: AnswerEvent): void {
    if (event.type === 'tokens') {
      const choice = this.#choices[event.choice]!;
      choice.text += event.text;
      if (event.logprobs) choice.logprobs.push(...answerTokens(event.logprobs, this.prompt.echo));
    } else if (event.type === 'call') {
      addToCalls(this.#choices[event.choice]!.toolCalls, event.delta);
    } else if (event.type === 'finish') {
      this.#choices[event.choice]!.finishReason = event.reason;
    } else if (event.type === 'prompt') {
      this.#promptTokens = promptTokens(event.promptLogprobs, this.prompt.echo!);
    } else if (event.type === 'done') {
      this.usage = event.usage;
    }
  }

  answers(): Answer[] {
    const { choices: shown, logprobs } = this.prepared;
    return this.#best(shown).map((choice, i) => ({
      index: this.promptIndex * shown + i,
      text: (this.prompt.echo?.text ?? '') + choice.text,
      toolCalls: choice.toolCalls,
      finishReason: choice.finishReason,
      logprobs: logprobs < 0 ? undefined : [...this.#promptTokens, ...choice.logprobs],
    }));
  }

  /** Of `best_of` choices those with the highest log probability per token. */
  #best(count: number): Choice[] {
    if (count === this.#choices.length) return this.#choices;
    return this.#choices.toSorted((a, b) => meanLogprob(b) - meanLogprob(a)).slice(0, count);
  }
}

function addToCalls(calls: ToolCall[], delta: ToolCallDelta): void {
  if (delta.type === 'begin') calls.push({ id: delta.id, name: delta.name, arguments: '' });
  const call = calls[delta.index]!;
  if (delta.type === 'arguments') calls[delta.index] = { ...call, arguments: call.arguments + delta.text };
}

function meanLogprob({ logprobs }: Choice): number {
  if (logprobs.length === 0) return Number.NEGATIVE_INFINITY;
  return logprobs.reduce((sum, { logprob }) => sum + logprob, 0) / logprobs.length;
}
