import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { Environment, Interpreter, Template } from '@huggingface/jinja';
import { EngineError } from '../errors.js';
import { invalidModel, quoted, readTextIfThere, requireFolder } from './model-files.js';
import { strftime } from './strftime.js';
import type { ChatTemplate } from './text.js';
import { TimeLimit, TimeLimitError } from './time-limit.js';
import { isRecord, readTokenizerConfig, tokenContent } from './tokenizer-files.js';

/*
 * Templates are data from strangers. They run in an interpreter that reaches nothing but its variables; their source,
 * their time and the length of their output are bounded. Their memory is bounded only through their time.
 */
const maxSourceBytes = 1024 * 1024;
const maxRenderedChars = 32 * 1024 * 1024;
const maxRange = 100_000; // Jinja2's sandbox has the same.
const parseTimeMs = 5000;
const renderTimeMs = 5000;

const specialTokenKeys = [
  'bos_token',
  'eos_token',
  'unk_token',
  'sep_token',
  'pad_token',
  'cls_token',
  'mask_token',
] as const;

/**
 * The chat template of a model folder: `overrideFile`, or `chat_template.jinja` with `additional_chat_templates/`, or
 * `tokenizer_config.json`'s string or list. Null if there is none. `clock` is what `strftime_now` reads.
 */
export async function openChatTemplate(
  folder: string,
  overrideFile?: string,
  clock: () => Date = () => new Date(),
): Promise<ChatTemplate | null> {
  await requireFolder(folder);
  const config = await readTokenizerConfig(folder);
  const sources = await templateSources(folder, config, overrideFile);
  if (sources.size === 0) return null;
  const programs = new Map(
    [...sources].map(([name, { file, source }]) => [name, parseTemplate(file, source)]),
  );
  return new JinjaChatTemplate(programs, specialTokens(config), clock);
}

type Program = Template['parsed'];

interface Source {
  readonly file: string;
  readonly source: string;
}

async function templateSources(
  folder: string,
  config: Record<string, unknown>,
  overrideFile: string | undefined,
): Promise<Map<string, Source>> {
  if (overrideFile !== undefined) {
    const source = await readTextIfThere(overrideFile, maxSourceBytes);
    if (source === undefined) throw invalidModel(overrideFile, 'there is no such file (chat template)');
    return new Map([['default', { file: overrideFile, source }]]);
  }
  const sources = configSources(path.join(folder, 'tokenizer_config.json'), config.chat_template);
  const main = path.join(folder, 'chat_template.jinja');
  const mainSource = await readTextIfThere(main, maxSourceBytes);
  if (mainSource !== undefined) sources.set('default', { file: main, source: mainSource });
  const further = path.join(folder, 'additional_chat_templates');
  for (const name of await readdir(further).catch(() => [] as string[])) {
    if (!name.endsWith('.jinja')) continue;
    const file = path.join(further, name);
    const source = await readTextIfThere(file, maxSourceBytes);
    if (source !== undefined) sources.set(name.slice(0, -'.jinja'.length), { file, source });
  }
  return sources;
}

function configSources(file: string, value: unknown): Map<string, Source> {
  if (value === undefined || value === null) return new Map();
  const named: unknown[] =
    typeof value === 'string' ? [{ name: 'default', template: value }] : asList(file, value);
  return new Map(
    named.map((entry) => {
      const { name, template } = isRecord(entry) ? entry : {};
      if (typeof name !== 'string' || typeof template !== 'string') {
        throw invalidModel(file, `chat_template: expected {name, template}, found ${quoted(entry)}`);
      }
      if (template.length > maxSourceBytes) {
        throw invalidModel(file, `chat_template ${quoted(name)} is longer than ${maxSourceBytes} characters`);
      }
      return [name, { file, source: template }];
    }),
  );
}

function asList(file: string, value: unknown): unknown[] {
  if (!Array.isArray(value))
    throw invalidModel(file, 'chat_template: expected a string or a list of templates');
  return value;
}

function parseTemplate(file: string, source: string): Program {
  try {
    return new TimeLimit(parseTimeMs).run(() => new Template(source).parsed);
  } catch (error) {
    throw invalidModel(file, `the chat template cannot be parsed (${messageOf(error)})`);
  }
}

function specialTokens(config: Record<string, unknown>): Record<string, unknown> {
  const tokens: Record<string, unknown> = {};
  for (const key of specialTokenKeys) {
    const content = tokenContent(config[key]);
    if (content !== undefined) tokens[key] = content;
  }
  if (Array.isArray(config.additional_special_tokens)) {
    tokens.additional_special_tokens = config.additional_special_tokens.map(tokenContent).filter(Boolean);
  }
  return tokens;
}

/** The template's own refusal of these messages. */
class Refusal extends Error {}

class JinjaChatTemplate implements ChatTemplate {
  readonly #limit = new TimeLimit(renderTimeMs);

  constructor(
    private readonly programs: ReadonlyMap<string, Program>,
    private readonly tokens: Readonly<Record<string, unknown>>,
    private readonly clock: () => Date,
  ) {}

  render(options: Parameters<ChatTemplate['render']>[0]): string {
    const program = this.#choose((options.tools?.length ?? 0) > 0);
    const variables = {
      tools: options.tools ?? null,
      documents: null,
      ...this.tokens,
      ...options.variables,
      messages: options.messages,
      add_generation_prompt: options.addGenerationPrompt,
    };
    let text: string;
    try {
      text = this.#limit.run(() => this.#run(program, variables));
    } catch (error) {
      if (error instanceof Refusal) throw new EngineError('invalid_request', error.message);
      const fault = error instanceof TimeLimitError ? error.message : `failed: ${messageOf(error)}`;
      throw new EngineError('invalid_request', `the model's chat template ${fault}`);
    }
    if (text.length > maxRenderedChars) {
      throw new EngineError(
        'invalid_request',
        `the model's chat template wrote ${text.length} characters; at most ${maxRenderedChars} are allowed`,
      );
    }
    return text;
  }

  #choose(withTools: boolean): Program {
    const names = withTools ? ['tool_use', 'default'] : ['default'];
    const name = names.find((candidate) => this.programs.has(candidate));
    if (name !== undefined) return this.programs.get(name)!;
    throw new EngineError(
      'invalid_request',
      `the model has no default chat template, only ${[...this.programs.keys()].map(quoted).join(', ')}`,
    );
  }

  #run(program: Program, variables: Record<string, unknown>): string {
    const globals = new Environment();
    for (const [name, value] of Object.entries(this.#globals())) globals.set(name, value);
    const scope = new Environment(globals);
    for (const [name, value] of Object.entries(variables)) scope.set(name, value);
    return String((new Interpreter(scope).run(program) as { value: unknown }).value);
  }

  #globals(): Record<string, unknown> {
    return {
      true: true,
      false: false,
      none: null,
      True: true,
      False: false,
      None: null,
      range,
      strftime_now: (format: unknown) => strftime(this.clock(), String(format)),
      raise_exception: (message: unknown) => {
        throw new Refusal(String(message));
      },
    };
  }
}

/** Python's `range`. */
function range(startOrStop: number, end?: number, step = 1): number[] {
  const [start, stop] = end === undefined ? [0, startOrStop] : [startOrStop, end];
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= maxRange)) throw new Error(`range() of more than ${maxRange} numbers`);
  return Array.from({ length }, (_, i) => start + i * step);
}

function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, 500);
}
