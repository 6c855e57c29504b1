import { readFileSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Folder } from '../scripts/support.js';
import { demoFolder } from '../support/demo.js';
import { type TestServer, testServer } from '../support/server.js';

const world = 300;

/** The demo model, with a tokenizer that begins texts with a space, and drops it, as that of Llama 2 does. */
function modelOfMarkedWords(): Folder {
  const bytes = Array.from({ length: 256 }, (_, byte) => byte.toString(16).toUpperCase().padStart(2, '0'));
  const special = ['<unk>', '<s>', '</s>'];
  const pieces = [...special, ...bytes.map((byte) => `<0x${byte}>`)];
  const mark = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const tokenizer = {
    added_tokens: special.map((content, id) => ({ id, content, special: true })),
    normalizer: { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, mark] },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      byte_fallback: true,
      vocab: { ...Object.fromEntries(pieces.map((piece, id) => [piece, id])), '▁': 299, '▁world': world },
      merges: [],
    },
  };
  const template = '{% for message in messages %}[INST] {{ message.content }} [/INST]{% endfor %}';
  const folder = new Folder({
    'tokenizer.json': JSON.stringify(tokenizer),
    'chat_template.jinja': template,
    'config.json': readFileSync(path.join(demoFolder, 'config.json'), 'utf8'),
  });
  symlinkSync(path.join(demoFolder, 'model.safetensors'), folder.at('model.safetensors'));
  return folder;
}

describe('an answer of a tokenizer that begins texts with a space', () => {
  const folder = modelOfMarkedWords();
  let server: TestServer;
  beforeAll(async () => {
    server = await testServer({ model: { path: folder.path } });
  });
  afterAll(async () => {
    await server.close();
    folder.close();
  });

  const body = { temperature: 0, logit_bias: { [world]: 100 } };

  async function choice(where: string, asked: object): Promise<Record<string, unknown>> {
    const answer = await server.post(where, { ...body, max_tokens: 2, ...asked });
    return ((await answer.json()) as { choices: Record<string, unknown>[] }).choices[0]!;
  }

  it('has the space where it goes on with a prompt', async () => {
    const completion = await choice('/v1/completions', { prompt: 'Hello', logprobs: 0 });
    expect(completion).toMatchObject({ text: ' world world', logprobs: { text_offset: [0, 6] } });
    expect(await choice('/v1/completions', { prompt: [299] })).toMatchObject({ text: ' world world' });
    expect(await choice('/v1/completions', { prompt: 'Hello', echo: true, logprobs: 0 })).toMatchObject({
      text: 'Hello world world',
    });
    const message = { role: 'assistant', content: 'Hello' };
    const asked = { messages: [message], continue_final_message: true };
    expect(await choice('/v1/chat/completions', asked)).toMatchObject({
      message: { content: ' world world' },
    });
  });

  it('does not where it is a text of its own', async () => {
    // The token that texts begin with is no text.
    expect(await choice('/v1/completions', { prompt: [1] })).toMatchObject({ text: 'world world' });
    const messages = [{ role: 'user', content: 'Hello' }];
    expect(await choice('/v1/chat/completions', { messages })).toMatchObject({
      message: { content: 'world world' },
    });
    const response = await server.post('/v1/responses', { ...body, max_output_tokens: 2, input: 'Hello' });
    expect(await response.json()).toMatchObject({ output: [{ content: [{ text: 'world world' }] }] });
  });
});
