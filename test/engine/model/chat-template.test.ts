import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type ChatTemplate, openChatTemplate } from '../../../engine/index.js';
import { strftime } from '../../../engine/model/strftime.js';
import { TimeLimit, TimeLimitError } from '../../../engine/model/time-limit.js';
import { modelFolder, refusal, removeFolders } from './model-folder.js';

afterAll(removeFolders);

const hello = { messages: [{ role: 'user', content: 'Hello' }], addGenerationPrompt: true };

const withTemplate = async (chat_template: unknown, config: object = {}) =>
  (await openChatTemplate(await modelFolder({ 'tokenizer_config.json': { chat_template, ...config } })))!;

describe('chat template', () => {
  it('renders the demo model', async () => {
    const template = (await openChatTemplate('models/demo'))!;
    expect(template.render(hello)).toBe('<|bos|><|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n');
    expect(template.render({ ...hello, addGenerationPrompt: false })).not.toContain('assistant');
  });

  it('is null where the model has none', async () => {
    expect(await openChatTemplate(await modelFolder({ 'tokenizer_config.json': {} }))).toBeNull();
    expect(await openChatTemplate(await modelFolder())).toBeNull();
  });

  it('has the special tokens, written as text or as objects', async () => {
    const template = await withTemplate(
      '{{ bos_token }}{{ eos_token }}{{ additional_special_tokens | join(",") }}',
      {
        bos_token: '<s>',
        eos_token: { content: '</s>', lstrip: false },
        additional_special_tokens: ['<a>', { content: '<b>' }],
      },
    );
    expect(template.render(hello)).toBe('<s></s><a>,<b>');
  });

  const tools = [{ type: 'function', function: { name: 'f' } }];
  const named = [
    { name: 'default', template: 'plain' },
    { name: 'tool_use', template: 'tools {{ tools | length }}' },
  ];

  it('takes tool_use of a list when there are tools', async () => {
    const template = await withTemplate(named);
    expect(template.render(hello)).toBe('plain');
    expect(template.render({ ...hello, tools: [] })).toBe('plain');
    expect(template.render({ ...hello, tools })).toBe('tools 1');
    expect((await withTemplate([named[0]])).render({ ...hello, tools })).toBe('plain');
  });

  it('says so where the list has no default', async () => {
    const template = await withTemplate([{ name: 'rag', template: 'x' }]);
    expect(await refusal(() => template.render(hello), 'invalid_request')).toContain('"rag"');
  });

  it('prefers chat_template.jinja, with additional_chat_templates beside it', async () => {
    const folder = await modelFolder({
      'tokenizer_config.json': { chat_template: 'from the config' },
      'chat_template.jinja': 'from the file',
    });
    await mkdir(path.join(folder, 'additional_chat_templates'));
    await writeFile(path.join(folder, 'additional_chat_templates', 'tool_use.jinja'), 'with tools');
    const template = (await openChatTemplate(folder))!;
    expect(template.render(hello)).toBe('from the file');
    expect(template.render({ ...hello, tools })).toBe('with tools');
  });

  it('takes the file that the user gives before all others', async () => {
    const folder = await modelFolder({
      'chat_template.jinja': 'model',
      'mine.jinja': 'mine {{ messages[0].content }}',
    });
    const template = (await openChatTemplate(folder, path.join(folder, 'mine.jinja')))!;
    expect(template.render(hello)).toBe('mine Hello');
    const missing = path.join(folder, 'missing.jinja');
    expect(await refusal(() => openChatTemplate(folder, missing))).toContain(missing);
  });

  it('passes further variables on, which cannot replace the messages', async () => {
    const template = await withTemplate(
      '{{ messages | length }} {{ enable_thinking }} {{ add_generation_prompt }}',
    );
    const variables = { enable_thinking: 'no', messages: [], add_generation_prompt: 'x' };
    expect(template.render({ ...hello, variables })).toBe('1 no true');
  });

  it('takes absent tools for none, as transformers does', async () => {
    const template = await withTemplate('{{ tools is none }} {{ documents is none }} {{ other is defined }}');
    expect(template.render(hello)).toBe('true true false');
  });

  it('gives the day of the clock that is passed in', async () => {
    const folder = await modelFolder({ 'chat_template.jinja': '{{ strftime_now("%d %B %Y") }}' });
    const template = await openChatTemplate(folder, undefined, () => new Date(2024, 6, 26));
    expect(template!.render(hello)).toBe('26 July 2024');
  });

  it("refuses a request with the template's own words", async () => {
    const template = await withTemplate('{{ raise_exception("roles must alternate") }}');
    expect(await refusal(() => template.render(hello), 'invalid_request')).toBe('roles must alternate');
  });

  it('refuses a request that makes the template fail', async () => {
    const template = await withTemplate('{{ messages[0].content.nope.nope() }}');
    expect(await refusal(() => template.render(hello), 'invalid_request')).toContain('chat template failed');
  });

  it('refuses variables named like what the interpreter has', async () => {
    const template = await withTemplate('x');
    const message = await refusal(
      () => template.render({ ...hello, variables: { namespace: 1 } }),
      'invalid_request',
    );
    expect(message).toContain('namespace');
  });

  it.each<[string, unknown, string]>([
    ['that cannot be parsed', '{% if %}', 'cannot be parsed'],
    ['that is a number', 7, 'expected a string or a list'],
    ['without name', [{ template: 'x' }], 'expected {name, template}'],
    ['that is too long', 'x'.repeat(2 * 1024 * 1024), 'longer than'],
    ['nested without end', '{% if a %}'.repeat(50_000), 'cannot be parsed'],
  ])('refuses a template %s', async (_what, template, part) => {
    expect(await refusal(() => withTemplate(template))).toContain(part);
  });
});

describe('a hostile template', () => {
  const failing = async (template: ChatTemplate, messages: unknown = hello.messages) =>
    refusal(() => template.render({ ...hello, messages: messages as never }), 'invalid_request');

  it('cannot reach JavaScript', async () => {
    for (const source of [
      'messages.constructor',
      'messages.__proto__',
      'range.constructor',
      'process',
      'globalThis',
    ]) {
      const template = await withTemplate(`[{{ ${source} }}]`);
      expect(template.render(hello)).toBe('[]');
    }
  });

  it('cannot write without end', async () => {
    const doubling =
      '{% set ns = namespace(x="xxxxxxxx") %}{% for i in range(25) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}';
    expect(await failing(await withTemplate(doubling))).toContain('268435456 characters; at most');
    const further = doubling.replace('25', '60');
    expect(await failing(await withTemplate(further))).toContain('failed');
  });

  it('cannot make endless lists', async () => {
    expect(await failing(await withTemplate('{{ range(1000000000) }}'))).toContain('100000');
    expect(await failing(await withTemplate('{{ range(0, 10, 0) }}'))).toContain('range()');
    const counted = await withTemplate(
      '{{ range(3) | join }} {{ range(5, 1, -2) | join }} {{ range(4, 2) | join }}',
    );
    expect(counted.render(hello)).toBe('012 53 ');
  });

  it('cannot overflow the stack of the process', async () => {
    let nested: unknown = 'x';
    for (let i = 0; i < 100_000; i++) nested = [nested];
    expect(await failing(await withTemplate('x'), nested)).toContain('failed');
    expect(await failing(await withTemplate('{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}'))).toContain(
      'failed',
    );
  });
});

describe('time limit', () => {
  it('ends work that would not end, and leaves the rest in order', () => {
    // Long against the time that a busy machine may keep this process waiting: what ends in time must not be stopped.
    const limit = new TimeLimit(1000);
    const endless = () => {
      for (;;);
    };
    expect(() => limit.run(endless)).toThrow(TimeLimitError);
    expect(limit.run(() => 42)).toBe(42);
    const fault = new Error('mine');
    expect(() =>
      limit.run(() => {
        throw fault;
      }),
    ).toThrow(fault);
  });
});

describe('strftime', () => {
  it("writes what Python's does", () => {
    const date = new Date(2026, 0, 5, 15, 4, 9);
    expect(strftime(date, '%Y-%m-%d %H:%M:%S %I %p %y %b %B %a %A %-d 100%% %Q')).toBe(
      '2026-01-05 15:04:09 03 PM 26 Jan January Mon Monday 5 100% %Q',
    );
    expect(strftime(new Date(2026, 0, 5, 0, 0, 0), '%I %p')).toBe('12 AM');
  });
});
