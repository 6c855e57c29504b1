import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { modelOfMarkedWords, world } from '../support/marked-words.js';
import { type TestServer, testServer } from '../support/server.js';

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

  it('has the space where it follows a grammar that asks for it', async () => {
    const messages = [{ role: 'user', content: 'Hello' }];
    const asked = { messages, max_tokens: 8, grammar: 'root ::= " world"+' };
    expect(await choice('/v1/chat/completions', asked)).toMatchObject({
      message: { content: expect.stringMatching(/^( world){8}$/) as string },
    });
    const empty = { prompt: [1], max_tokens: 1, grammar: 'root ::= " world"' };
    expect(await choice('/v1/completions', empty)).toMatchObject({ text: ' world' });
  });
});
