import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Random } from '../../loadtest/random.js';
import { PromptSource } from '../../loadtest/serve/prompt-source.js';
import { readReplay, replayOf } from '../../loadtest/serve/trace-replay.js';
import { Folder } from '../scripts/support.js';
import { type TestServer, testServer } from '../support/server.js';

const model = { id: 'demo', contextLength: 2048 };
const azure = [
  'TIMESTAMP,ContextTokens,GeneratedTokens',
  '2023-11-16 23:59:59.5000000,4808,10',
  '2023-11-17 00:00:00.5000000,110,27',
  '2023-11-17 00:00:03.5000000,34,8',
].join('\n');
const lengths = 'num_prefill_tokens,num_decode_tokens\n3772,54\n2015,156\n';
const mooncake = [
  '{"timestamp": 0, "input_length": 1100, "output_length": 52, "hash_ids": [0, 1, 2]}',
  '{"timestamp": 3000, "input_length": 1300, "output_length": 12, "hash_ids": [0, 1, 7]}',
].join('\n');

describe('replaying a trace', () => {
  const read = (name: string, options: object = {}) => {
    using files = new Folder({ [name]: { azure, lengths, mooncake }[name.split('.')[0]!]! });
    return readReplay({ file: files.at(name), timeScale: 1, lengthScale: 1, ...options }, new Random(1));
  };
  let server: TestServer;
  let prompts: PromptSource;
  beforeAll(async () => {
    server = await testServer();
    prompts = await PromptSource.open({ url: server.url }, new Random(1));
  });
  afterAll(() => server.close());

  it("keeps the trace's times, stretched by the time scale", () => {
    const seconds = (options: object) => read('azure.csv', options).map(({ atSeconds }) => atSeconds);
    expect(seconds({})).toEqual([0, 1, 4].map((at) => expect.closeTo(at, 5)));
    expect(seconds({ timeScale: 0.5 })).toEqual([0, 0.5, 2].map((at) => expect.closeTo(at, 5)));
    // 3 requests a second on average, and the second one still comes soon after the first.
    expect(seconds({ rate: 3 })).toEqual([0, 1 / 6, 4 / 6].map((at) => expect.closeTo(at, 5)));
    expect(seconds({ requests: 2 })).toHaveLength(2);
  });

  it('asks for a rate where there are no times', () => {
    expect(() => read('lengths.csv')).toThrow(
      'lengths.csv holds no times: give the arrivals a second with --rate',
    );
    expect(read('lengths.csv', { rate: 2 })).toHaveLength(2);
  });

  it('sends prompts of the lengths there, scaled, and shortened to the context', () => {
    const sizes = (options: object) => {
      const { requests, sent, shortened } = replayOf(read('azure.csv', options), model, prompts);
      expect(sent.map(({ promptTokens, outputTokens }) => [promptTokens, outputTokens])).toEqual(
        requests.map(({ prompt, maxTokens }) => [prompt.length, maxTokens]),
      );
      return { shortened, of: requests.map(({ prompt, maxTokens }) => [prompt.length, maxTokens]) };
    };
    expect(sizes({})).toEqual({
      shortened: 1,
      of: [
        [2038, 10],
        [110, 27],
        [34, 8],
      ],
    });
    expect(sizes({ lengthScale: 0.1 })).toEqual({
      shortened: 0,
      of: [
        [481, 1],
        [11, 3],
        [3, 1],
      ],
    });
  });

  it('lets prompts begin alike as far as their hashes do, and no others', () => {
    const [first, second] = replayOf(read('mooncake.jsonl'), model, prompts).requests.map(
      ({ prompt }) => prompt,
    );
    expect(first!.length).toBe(1100);
    expect(second!.slice(0, 1024)).toEqual(first!.slice(0, 1024));
    expect(second!.slice(1024, 1100)).not.toEqual(first!.slice(1024));
    const [, other] = replayOf(read('azure.csv'), model, prompts).requests.map(({ prompt }) => prompt);
    expect(other!.slice(0, 32)).not.toEqual(first!.slice(0, 32));
  });
});
