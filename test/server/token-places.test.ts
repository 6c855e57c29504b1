import { readFileSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Folder } from '../scripts/support.js';
import { demoFolder } from '../support/demo.js';
import { type TestServer, testServer } from '../support/server.js';

interface Choice {
  readonly index: number;
  readonly text: string;
  readonly logprobs: { readonly tokens: string[]; readonly text_offset: number[] };
}

/** The demo model, with a tokenizer that begins texts as that of Llama 3 does. */
function modelThatAddsBos(): Folder {
  const tokenizer = JSON.parse(readFileSync(path.join(demoFolder, 'tokenizer.json'), 'utf8')) as object;
  const begin = { SpecialToken: { id: '<|bos|>', type_id: 0 } };
  const post_processor = {
    type: 'TemplateProcessing',
    single: [begin, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [begin, { Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
    special_tokens: { '<|bos|>': { id: '<|bos|>', ids: [0], tokens: ['<|bos|>'] } },
  };
  const folder = new Folder({ 'tokenizer.json': JSON.stringify({ ...tokenizer, post_processor }) });
  for (const name of ['config.json', 'model.safetensors']) {
    symlinkSync(path.join(demoFolder, name), folder.at(name));
  }
  return folder;
}

/** The choices of a completion. */
async function complete(server: TestServer, body: object): Promise<Choice[]> {
  const response = await server.post('/v1/completions', body);
  return ((await response.json()) as { choices: Choice[] }).choices;
}

/** The same, put together from a stream. */
async function streamed(server: TestServer, body: object): Promise<Choice[]> {
  const text = await (await server.post('/v1/completions', { ...body, stream: true })).text();
  const choices: Choice[] = [];
  for (const event of text.split('\n\n').filter((line) => line.startsWith('data: {'))) {
    const [piece] = (JSON.parse(event.slice('data: '.length)) as { choices: Choice[] }).choices;
    const { index, logprobs } = piece!;
    const before = choices[index] ?? { index, text: '', logprobs: { tokens: [], text_offset: [] } };
    choices[index] = {
      index,
      text: before.text + piece!.text,
      logprobs: {
        tokens: [...before.logprobs.tokens, ...(logprobs?.tokens ?? [])],
        text_offset: [...before.logprobs.text_offset, ...(logprobs?.text_offset ?? [])],
      },
    };
  }
  return choices;
}

/** Each token that is whole characters stands where it is said to. */
function expectInPlace({ text, logprobs: { tokens, text_offset: offsets } }: Choice): void {
  const characters = [...text];
  tokens.forEach((token, i) => {
    if (token.includes('\ufffd') || token.startsWith('<|')) return;
    expect(characters.slice(offsets[i], offsets[i]! + [...token].length).join(''), `token ${i}`).toBe(token);
  });
}

describe('tokens with log probabilities', () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await testServer();
  });
  afterAll(() => server.close());
  const body = { max_tokens: 24, temperature: 1, seed: 7, logprobs: 1 };

  it('are said to be where they are in the text, counted in characters, streamed and not', async () => {
    const cases = [
      { prompt: 'The 🦊 and the', echo: true, n: 2 },
      { prompt: 'naïve cafe\u0301 — “', echo: true, n: 2 },
      { prompt: 'The 🦊 and the', n: 2, stop: [' was', 'e w', '.'] },
      // With ends in it, which are not shown.
      { prompt: 'a', logit_bias: { 3: 20 }, ignore_eos: true, n: 3 },
    ];
    for (const over of cases) {
      const whole = await complete(server, { ...body, ...over });
      const { stop: _, ...unstopped } = { stop: undefined, ...over };
      for (const choice of await complete(server, { ...body, ...unstopped })) expectInPlace(choice);
      const inPieces = await streamed(server, { ...body, ...over });
      for (const { index, text, logprobs } of whole) {
        const { tokens, text_offset } = logprobs;
        expect(inPieces[index], JSON.stringify(over)).toEqual({
          index,
          text,
          logprobs: { tokens, text_offset },
        });
      }
    }
  });

  it('say in what part of a character they begin by where it does', async () => {
    const [choice] = await complete(server, { prompt: '🦊!', echo: true, logprobs: 0, max_tokens: 0 });
    const { tokens, text_offset } = choice!.logprobs;
    expect(tokens.filter((token) => token === '\ufffd')).toHaveLength(4);
    expect(text_offset.slice(-5)).toEqual([0, 0, 0, 0, 1]);
  });
});

describe('an echo', () => {
  it('is the text as it was sent, without what the tokenizer puts before it', async () => {
    using folder = modelThatAddsBos();
    const server = await testServer({ model: { path: folder.path } });
    try {
      const prompt = 'Once upon';
      const body = { prompt, echo: true, max_tokens: 4, temperature: 0, logprobs: 0 };
      for (const [choice] of [await complete(server, body), await streamed(server, body)]) {
        expect(choice!.text.startsWith('Once upon')).toBe(true);
        expect(choice!.logprobs.tokens[0]).toBe('<|bos|>');
        expect(choice!.logprobs.text_offset.slice(0, 2)).toEqual([0, 0]);
        expectInPlace(choice!);
      }
      const [ofIds] = await complete(server, { ...body, prompt: [0, 1305] });
      expect(ofIds!.text.startsWith('<|bos|>')).toBe(true);
      expectInPlace(ofIds!);
    } finally {
      await server.close();
    }
  });
});
