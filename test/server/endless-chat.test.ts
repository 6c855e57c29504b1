import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { defaultMaxTokens, type PrepareContext } from '../../server/prepare/context.js';
import { type TestServer, testServer } from '../support/server.js';

interface Answer {
  choices: { message: { content: string }; finish_reason: string }[];
  usage: {
    prompt_tokens: number;
    tandem: { kv: { tokens: number; bytes: number; dropped_tokens?: number } };
  };
}

/** Turns of a conversation of some 3000 tokens; the demo model was trained on 2048. */
const turns = Array.from({ length: 24 }, (_, i) => [
  { role: 'user', content: `Part ${i}. ${'The red fox ran across the garden. '.repeat(14)}` },
  { role: 'assistant', content: 'I see.' },
]).flat();
const messages = [
  ...turns,
  { role: 'user', content: 'The key of Anna is in the drawer. Question: Where is the key?' },
];
const greedy = { temperature: 0, max_tokens: 24 };

describe('a chat that is longer than the trained context', () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await testServer({ engine: { kv: 'pack', packMidTokens: 512 } });
  });
  afterAll(() => server.close());

  it('is answered under pack, in bounded memory, and the same each time', async () => {
    const ask = async () =>
      (await (
        await server.post('/v1/chat/completions', { ...greedy, messages, tandem: { kv: true } })
      ).json()) as Answer;
    const answer = await ask();
    const { choices, usage } = answer;
    expect(usage.prompt_tokens).toBeGreaterThan(2500);
    const document = (await (await fetch(`${server.url}/openapi.json`)).json()) as object;
    const ajv = new Ajv2020({ strict: false, validateFormats: false });
    ajv.addSchema({ $id: 'openapi', ...document });
    expect(
      ajv.validate({ $ref: 'openapi#/components/schemas/ChatCompletion' }, answer),
      ajv.errorsText(),
    ).toBe(true);
    const { kv } = usage.tandem;
    // Sink, recent and what moves next, exact, and mid as int4.
    expect(kv.bytes).toBeLessThanOrEqual(((64 + 512 + 256) / 32) * 196_608 + (512 / 32) * 58_368);
    expect(kv.dropped_tokens).toBeGreaterThan(usage.prompt_tokens - (64 + 512 + 512 + 256));
    expect(choices[0]!.message.content).not.toBe('');
    expect((await ask()).choices).toEqual(choices);
  });

  it('goes on in a chain of responses, which are not read again', async () => {
    let previous: string | undefined;
    let tokens = 0;
    let readTokens = 0;
    for (let turn = 0; turn < 4; turn++) {
      const input = turns
        .slice(12 * turn, 12 * turn + 12)
        .map(({ content }) => content)
        .join(' ');
      const response = await server.post('/v1/responses', {
        input,
        temperature: 0,
        max_output_tokens: 24,
        ...(previous !== undefined && { previous_response_id: previous }),
      });
      const body = (await response.json()) as {
        id: string;
        usage: { input_tokens: number; input_tokens_details: { cached_tokens: number } };
      };
      expect(response.status).toBe(200);
      previous = body.id;
      tokens = body.usage.input_tokens;
      readTokens += tokens - body.usage.input_tokens_details.cached_tokens;
    }
    expect(tokens).toBeGreaterThan(2500);
    // A part of a page, or of an answer that a text's tokens do not spell, is.
    expect(readTokens).toBeLessThan(tokens + 4 * 64);
  });

  it('is refused where sequences end with the trained context', async () => {
    const exact = await testServer();
    const response = await exact.post('/v1/chat/completions', { ...greedy, messages });
    expect(response.status).toBe(400);
    expect(((await response.json()) as { error: { code: string } }).error.code).toBe(
      'context_length_exceeded',
    );
    await exact.close();
  });

  it('has an answer of the trained length at most, where nobody says how long', () => {
    const defaults = { eosTokenIds: [] };
    const context = { contextLength: 2 ** 24, trainedLength: 2048, defaults } as unknown as PrepareContext;
    expect(defaultMaxTokens(context, 5000)).toBe(2048);
    expect(defaultMaxTokens({ ...context, contextLength: 2048 }, 500)).toBe(1548);
    expect(defaultMaxTokens({ ...context, defaults: { ...defaults, maxNewTokens: 256 } }, 5000)).toBe(256);
  });
});
