import { existsSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { type ChatTemplate, openChatTemplate } from '../../../engine/index.js';
import { findToolCallFormat } from '../../../server/tools/find-format.js';
import type { ToolCallFormatName } from '../../../server/tools/tool-call-format.js';
import { sharedPath, sharedText } from '../../engine/model/shared-data.js';
import { demoFolder } from '../../support/demo.js';
import { partsOf } from './parts.js';

const haveData = existsSync(sharedPath('tool_calls')) && existsSync(sharedPath('chat_templates'));
const title = (text: string) => (haveData ? text : `${text} (skipped: ../shared/data is not here)`);

const open = (name: string) =>
  openChatTemplate(demoFolder, sharedPath(`chat_templates/files/${name}.jinja`)) as Promise<ChatTemplate>;

interface Row {
  readonly question: { role: string; content: string }[][];
  readonly function: { name: string; description: string }[];
  readonly ground_truth: Record<string, Record<string, unknown[]>>[] | null;
}

const rowsOf = (name: string) =>
  sharedText(`tool_calls/BFCL_v4_${name}.first100.jsonl`)
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Row);

/** The calls that a row holds true, each argument with the first of its values. */
function truth(row: Row): { name: string; arguments: Record<string, unknown> }[] {
  return (row.ground_truth ?? []).flatMap((call) =>
    Object.entries(call).map(([name, given]) => ({
      name,
      arguments: Object.fromEntries(Object.entries(given).map(([key, [value]]) => [key, value])),
    })),
  );
}

/**
 * What the template adds to a row's question for an answer that is these calls, without the token that ends a turn and an
 * empty thought. Parameters are left out: the rows have types that are none of JSON Schema, and some templates fail there.
 */
function written(template: ChatTemplate, row: Row, calls: ReturnType<typeof truth>): string {
  // A system message may move when the conversation goes on.
  const messages = row.question[0]!.filter(({ role }) => role !== 'system');
  const parameters = { type: 'object', properties: {} };
  const tools = row.function.map(({ name, description }) => ({
    type: 'function',
    function: { name, description, parameters },
  }));
  const tool_calls = calls.map((call) => ({ id: 'abcdefghi', type: 'function', function: call }));
  const answer = { role: 'assistant', content: '', tool_calls };
  const before = template.render({ messages, tools, addGenerationPrompt: true });
  const after = template.render({ messages: [...messages, answer], tools, addGenerationPrompt: false });
  expect(after.startsWith(before.trimEnd())).toBe(true);
  return after
    .slice(before.length)
    .replace(/(<\|im_end\|>|<\|eot_id\|>|<\/s>)\s*$|^<think>\s*<\/think>\s*/g, '');
}

const templates: [string, ToolCallFormatName, 'many' | 'one'][] = [
  ['Qwen-Qwen2.5-7B-Instruct', 'hermes', 'many'],
  ['Qwen-Qwen3-0.6B', 'hermes', 'many'],
  ['NousResearch-Hermes-3-Llama-3.1-8B-tool_use', 'hermes', 'many'],
  ['meta-llama-Llama-3.1-8B-Instruct', 'llama', 'one'],
  ['meta-llama-Llama-3.2-3B-Instruct', 'llama', 'one'],
  ['mistralai-Mistral-Nemo-Instruct-2407', 'mistral', 'many'],
  ['Mistral-Small-3.2-24B-Instruct-2506', 'mistral', 'many'],
];

describe.skipIf(!haveData)(title('the format of a chat template'), () => {
  it.each(templates)('%s: %s', async (name, format) => {
    expect(findToolCallFormat(await open(name))).toBe(format);
  });

  it.each([
    'Qwen3-Coder',
    'GLM-4.6',
    'google-gemma-2-2b-it',
    'microsoft-Phi-3.5-mini-instruct',
    'openai-gpt-oss-120b',
  ])('%s: none that is known', async (name) => {
    expect(findToolCallFormat(await open(name))).toBeUndefined();
  });

  it('is none for the demo model, which knows no tools', async () => {
    expect(findToolCallFormat((await openChatTemplate(demoFolder))!)).toBeUndefined();
  });
});

describe.skipIf(!haveData).each(templates)(title('calls as %s writes them'), (name, format, most) => {
  let template: ChatTemplate;
  beforeAll(async () => {
    template = await open(name);
  });

  it.each(['simple_python', 'live_simple', 'multiple', 'parallel', 'parallel_multiple', 'live_parallel'])(
    'are read back: %s',
    (set) => {
      for (const row of rowsOf(set)) {
        const calls = truth(row);
        const text =
          most === 'many'
            ? written(template, row, calls)
            : calls.map((call) => written(template, row, [call])).join('; ');
        const names = calls.map((call) => call.name);
        for (const pieces of [[text], [...text], text.match(/[\s\S]{1,7}/g)!]) {
          const parts = partsOf(format, pieces, names).map((part) =>
            'call' in part ? { ...part.call, arguments: JSON.parse(part.call.arguments) } : part,
          );
          expect(parts).toEqual(calls);
        }
      }
    },
  );
});
