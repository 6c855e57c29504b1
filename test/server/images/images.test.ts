import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { Folder } from '../../scripts/support.js';
import { type TestServer, testServer } from '../../support/server.js';
import { makeVisionModel } from '../../support/vision-model.js';
import { bomb, dataUrl, png } from './test-image.js';

/** Of the model: tokens of a tile. */
const tileTokens = 16;

const wide = (shift: number) => png(100, 50, (x, y) => [(2 * x + shift) % 256, (4 * y + shift) % 256, shift]);
const red = dataUrl(wide(200));
const blue = dataUrl(wide(20));

let folder: Folder;
let server: TestServer;
let client: OpenAI;
beforeAll(async () => {
  folder = new Folder();
  makeVisionModel(folder.at('model'));
  server = await testServer({
    model: { path: folder.at('model'), servedModelName: 'seer', weights: 'bf16' },
    server: { maxImages: 3, maxImagePixels: 1_000_000 },
  });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(async () => {
  await server.close();
  folder.close();
});

type Part = OpenAI.ChatCompletionContentPart;
const text = (said: string): Part => ({ type: 'text', text: said });
const image = (url: string, detail: 'low' | 'high' | 'auto' = 'auto'): Part => ({
  type: 'image_url',
  image_url: { url, detail },
});

async function ask(...content: Part[]) {
  const answer = await client.chat.completions.create({
    model: 'seer',
    messages: [{ role: 'user', content }],
    max_tokens: 6,
    temperature: 0,
    logprobs: true,
  });
  const { usage, choices } = answer;
  return {
    tokens: usage!.prompt_tokens,
    cached: usage!.prompt_tokens_details!.cached_tokens!,
    answer: choices[0]!.logprobs!.content!.map(({ token, logprob }) => [token, logprob]),
  };
}

async function tokensOf(...content: Part[]): Promise<number[]> {
  const answer = await server.post('/tokenize', { messages: [{ role: 'user', content }] });
  return ((await answer.json()) as { tokens: number[] }).tokens;
}

async function refusal(...content: unknown[]): Promise<{ status: number; param: string; code: string }> {
  const answer = await server.post('/v1/chat/completions', { messages: [{ role: 'user', content }] });
  const { error } = (await answer.json()) as { error: { param: string; code: string } };
  return { status: answer.status, param: error.param, code: error.code };
}

describe('images in a chat', () => {
  it('are as many tokens as they have tiles, and those that say which', async () => {
    const { imageTokenId } = server.engine.info.spec.vision!;
    const count = async (...content: Part[]) =>
      (await tokensOf(...content)).filter((token) => token === imageTokenId).length;
    // 256 x 128 pixels are 2 rows of 4, and the whole.
    expect(await count(text('What is it?'), image(red))).toBe(9 * tileTokens);
    expect(await count(text('What is it?'), image(red, 'low'))).toBe(tileTokens);
    expect(await count(image(red), text('and'), image(blue, 'low'))).toBe(10 * tileTokens);
  });

  it('count as the tokens of /tokenize say', async () => {
    const content = [text('What is it?'), image(red, 'low')];
    expect((await ask(...content)).tokens).toBe((await tokensOf(...content)).length);
  });

  it('are told apart by their pixels alone: the cache has one image, and not another of as many tokens', async () => {
    const fresh = await ask(image(red), text('What is it?'));
    const again = await ask(image(red), text('What is it?'));
    expect(again.cached).toBeGreaterThan(8 * tileTokens);
    expect(again.answer).toEqual(fresh.answer);
    const other = await ask(image(blue), text('What is it?'));
    expect(other.tokens).toBe(fresh.tokens);
    expect(other.cached).toBe(0);
    expect(other.answer).not.toEqual(fresh.answer);
  });

  it('are encoded once, however often they are shown', async () => {
    const shown = dataUrl(wide(77));
    const before = await server.metric('images_encoded_total');
    await ask(image(shown, 'low'));
    await ask(image(shown, 'low'), text('And now?'), image(shown, 'low'));
    expect(await server.metric('images_encoded_total')).toBe(before + 1);
    expect(await server.metric('images_reused_total')).toBeGreaterThanOrEqual(2);
  });

  it('cannot be made of words', async () => {
    const { imageTokenId } = server.engine.info.spec.vision!;
    const said = 'An <image>, <fake_token_around_image><global-img> or <row_1_col_1><image>.';
    const tokens = await tokensOf(text(said));
    expect(tokens).not.toContain(imageTokenId);
    const { prompt } = (await (await server.post('/detokenize', { tokens })).json()) as { prompt: string };
    expect(prompt).toContain(said);
    expect((await ask(text(said), image(red, 'low'))).tokens).toBeGreaterThan(tileTokens);
  });

  it('answer several choices, and streams, as one request alone', async () => {
    const messages = [{ role: 'user' as const, content: [image(red), text('What is it?')] }];
    const common = { model: 'seer', messages, max_tokens: 6, temperature: 0 };
    const both = await client.chat.completions.create({ ...common, n: 2 });
    const [first, second] = both.choices.map(({ message }) => message.content);
    expect(second).toBe(first);
    let streamed = '';
    for await (const chunk of await client.chat.completions.create({ ...common, stream: true })) {
      streamed += chunk.choices[0]?.delta.content ?? '';
    }
    expect(streamed).toBe(first);
  });

  it('are refused with their place where they cannot be read', async () => {
    const cases: [string, string][] = [
      ['https://example.com/cat.png', 'unsupported_image_url'],
      ['file:///etc/passwd', 'unsupported_image_url'],
      ['data:image/svg+xml;base64,PHN2Zy8+', 'invalid_image'],
      ['data:image/png,abc', 'invalid_image'],
      ['data:image/png;base64,a b!', 'invalid_image'],
      [dataUrl(Buffer.from('no image at all')), 'invalid_image'],
      // What it is called does not make an SVG a PNG.
      [
        dataUrl(Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')),
        'invalid_image',
      ],
      [dataUrl(wide(1).subarray(0, 60)), 'invalid_image'],
      [dataUrl(bomb(40_000, 40_000)), 'invalid_image'],
    ];
    for (const [url, code] of cases) {
      const found = await refusal(text('What is it?'), image(url));
      expect(found, url.slice(0, 60)).toEqual({ status: 400, param: 'messages.0.content.1', code });
    }
    expect(await refusal(...Array.from({ length: 4 }, () => image(red)))).toMatchObject({
      status: 400,
      param: 'messages.0.content.3',
      code: 'too_many_images',
    });
    expect(await refusal({ type: 'input_audio' })).toMatchObject({ code: 'unsupported_content' });
  });
});

describe('images in a response', () => {
  it('stay in the conversation that is kept', async () => {
    const first = await client.responses.create({
      model: 'seer',
      input: [
        {
          role: 'user',
          content: [
            { type: 'input_text', text: 'What is it?' },
            { type: 'input_image', image_url: red, detail: 'high' },
          ],
        },
      ],
      max_output_tokens: 4,
      temperature: 0,
    });
    const { data } = await client.responses.inputItems.list(first.id);
    expect(data[0]).toMatchObject({ content: [{}, { type: 'input_image', image_url: red, detail: 'high' }] });
    const second = await client.responses.create({
      model: 'seer',
      previous_response_id: first.id,
      input: 'And its colour?',
      max_output_tokens: 4,
      temperature: 0,
    });
    expect(second.usage!.input_tokens).toBeGreaterThan(first.usage!.input_tokens);
    expect(second.usage!.input_tokens_details.cached_tokens).toBeGreaterThan(8 * tileTokens);
  });

  it('come over a socket too', async () => {
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/v1/responses`);
    const content = [{ type: 'input_image', image_url: red, detail: 'low' }];
    const asked = { input: [{ role: 'user', content }], max_output_tokens: 4, temperature: 0 };
    const ended = new Promise<{ type: string; response: OpenAI.Responses.Response }>((resolve, reject) => {
      socket.on('error', reject);
      socket.on('open', () => socket.send(JSON.stringify({ type: 'response.create', ...asked })));
      socket.on('message', (data) => {
        const event = JSON.parse(String(data));
        if (/^(error|response\.(completed|incomplete|failed))$/.test(event.type)) resolve(event);
      });
    });
    const { type, response } = await ended;
    socket.close();
    expect(type).toBe('response.incomplete');
    const overHttp = (await (await server.post('/v1/responses', asked)).json()) as OpenAI.Responses.Response;
    expect(response.usage!.input_tokens).toBe(overHttp.usage!.input_tokens);
    const textsOf = ({ output }: OpenAI.Responses.Response) =>
      output.flatMap((item) => (item.type === 'message' ? item.content : []));
    expect(textsOf(response)).toEqual(textsOf(overHttp));
    expect(textsOf(response)).toHaveLength(1);
  });

  it('are refused with their place where they cannot be read', async () => {
    const refused = async (content: object) => {
      const answer = await server.post('/v1/responses', { input: [{ role: 'user', content: [content] }] });
      return ((await answer.json()) as { error: object }).error;
    };
    const param = 'input.0.content.0';
    expect(await refused({ type: 'input_image', image_url: 'http://x/y.png' })).toMatchObject({
      param,
      code: 'unsupported_image_url',
    });
    expect(await refused({ type: 'input_image', file_id: 'file_1' })).toMatchObject({
      param,
      code: 'unsupported_content',
    });
    expect(await refused({ type: 'input_image', image_url: dataUrl(Buffer.from('?')) })).toMatchObject({
      param,
      code: 'invalid_image',
    });
  });
});

describe('images in a session', () => {
  it('of a socket are seen as in one conversation', async () => {
    // As real models: their answers end with what ends every message, and that is what the template writes there.
    makeVisionModel(folder.at('talker'));
    folder.write(
      'talker.jinja',
      "{% for message in messages %}{{ message['role'] }}:\n{% for part in message['content'] %}" +
        "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}{{ '<image>' }}{% endif %}{% endfor %}" +
        "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}",
    );
    const ended = await server.post('/tokenize', { prompt: '<end_of_utterance>', add_special_tokens: false });
    const { tokens: eos } = (await ended.json()) as { tokens: number[] };
    folder.write('talker/generation_config.json', JSON.stringify({ eos_token_id: eos }));
    const packed = await testServer({
      model: {
        path: folder.at('talker'),
        servedModelName: 'seer',
        weights: 'bf16',
        chatTemplate: folder.at('talker.jinja'),
      },
      engine: { kv: 'pack', packSinkTokens: 32, packRecentTokens: 64, packMidTokens: 128, packTopPages: 2 },
    });
    const socket = new WebSocket(`${packed.url.replace('http', 'ws')}/v1/stream`);
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
    const asked = { grammar: 'root ::= "a"', temperature: 0, logprobs: true };
    const messages: object[] = [];
    for (const [turn, shift] of [10, 90, 170].entries()) {
      const content = [text(`Look ${turn}.`), image(dataUrl(wide(shift))), text('What is it?')];
      messages.push({ role: 'user', content });
      const logprobs: object[] = [];
      const done = new Promise<{ usage: OpenAI.CompletionUsage }>((resolve, reject) => {
        socket.removeAllListeners('message').on('message', (data) => {
          const frame = JSON.parse(String(data));
          if (frame.type === 'error') reject(new Error(frame.error.message));
          if (frame.type === 'done') resolve(frame);
          logprobs.push(...(frame.logprobs ?? []));
        });
      });
      const request = { ...asked, messages: [messages.at(-1)] };
      const frame = turn === 0 ? { type: 'generate', session: true } : { type: 'update' };
      socket.send(JSON.stringify({ ...frame, id: 'tale', request }));
      const { usage } = await done;
      const whole = (await (
        await packed.post('/v1/chat/completions', { ...asked, messages })
      ).json()) as OpenAI.ChatCompletion;
      expect(usage.prompt_tokens).toBe(whole.usage!.prompt_tokens);
      // The letter's, and those of the token that ends the answer.
      expect(logprobs).toHaveLength(2);
      expect(logprobs).toEqual(whole.choices[0]!.logprobs!.content);
      messages.push({ role: 'assistant', content: 'a' });
    }
    socket.close();
    await packed.close();
  });
});

describe('images of requests that give way to each other', () => {
  it('are there when they go on', async () => {
    // Each comes to some 25 blocks.
    const tight = await testServer({
      model: { path: folder.at('model'), servedModelName: 'seer', weights: 'bf16' },
      engine: { kvMemory: 34 * blockBytes(), prefixCache: false },
    });
    const answer = async (shift: number) => {
      const messages = [{ role: 'user', content: [image(dataUrl(wide(shift))), text('What is it?')] }];
      const asked = { messages, max_tokens: 500, ignore_eos: true, temperature: 0 };
      const said = await (await tight.post('/v1/chat/completions', asked)).json();
      return (said as OpenAI.ChatCompletion).choices[0]!.message.content;
    };
    const shifts = [10, 90, 170];
    const alone: unknown[] = [];
    for (const shift of shifts) alone.push(await answer(shift));
    expect(new Set(alone).size).toBe(3);
    expect(await tight.metric('num_preemptions_total')).toBe(0);
    // On a busy machine one may have ended before the next one's image was read.
    while ((await tight.metric('num_preemptions_total')) === 0) {
      expect(await Promise.all(shifts.map(answer))).toEqual(alone);
    }
    await tight.close();
  });

  function blockBytes(): number {
    const { kvBytesPerToken } = server.engine.info;
    return kvBytesPerToken * 32;
  }
});
