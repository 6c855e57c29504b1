import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { eventually, type TestServer, testServer } from '../../support/server.js';
import type { WireEvent } from './server-events.js';

interface Shown {
  id: string;
  store: boolean;
  output: { content: { text: string }[] }[];
  usage: { input_tokens: number };
}

/** A socket that keeps all events. */
class Client {
  readonly events: WireEvent[] = [];
  readonly socket: WebSocket;
  readonly opened: Promise<void>;

  constructor(url: string) {
    this.socket = new WebSocket(`${url.replace('http', 'ws')}/v1/responses`);
    this.opened = new Promise((resolve, reject) => {
      this.socket.on('open', () => resolve());
      this.socket.on('error', reject);
    });
    this.socket.on('message', (data) => this.events.push(JSON.parse(String(data))));
  }

  /** The last event of the answer to a frame that is sent when nothing runs. */
  async ask(frame: object | string): Promise<WireEvent> {
    const before = this.ends.length;
    this.socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame));
    await eventually(async () => this.ends.length > before);
    return this.ends[before]!;
  }

  async create(body: object): Promise<Shown> {
    const end = await this.ask({ type: 'response.create', ...body });
    expect(end.type).toBe('response.completed');
    return end.response as Shown;
  }

  get ends(): WireEvent[] {
    return this.events.filter(({ type }) => /^(error|response\.(completed|incomplete|failed))$/.test(type));
  }
}

const input = 'Count to 10.';
const counted = '1, 2, 3, 4, 5, 6, 7, 8, 9, 10.';
const textOf = ({ output }: Shown) => output[0]!.content[0]!.text;

describe('WS /v1/responses', () => {
  let server: TestServer;
  const clients: Client[] = [];
  beforeAll(async () => {
    server = await testServer({ server: { bodyLimit: 20_000 } });
  });
  afterEach(() => {
    for (const { socket } of clients.splice(0)) socket.close();
  });
  afterAll(() => server.close());

  async function connect(): Promise<Client> {
    const client = new Client(server.url);
    clients.push(client);
    await client.opened;
    return client;
  }

  it('answers frames one after another with the events of HTTP', async () => {
    const client = await connect();
    for (const max_output_tokens of [50, 5]) {
      client.socket.send(JSON.stringify({ type: 'response.create', input, max_output_tokens }));
    }
    await eventually(async () => client.ends.length === 2);
    const second = client.events.findLastIndex(({ type }) => type === 'response.created');
    const [one, two] = [client.events.slice(0, second), client.events.slice(second)];
    for (const events of [one, two]) {
      expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, i) => i));
    }
    expect(one.at(-1)!.type).toBe('response.completed');
    expect(two.at(-1)!.type).toBe('response.incomplete');
    const answer = await server.post('/v1/responses', { input, max_output_tokens: 50 });
    expect(textOf(one.at(-1)!.response as Shown)).toBe(textOf((await answer.json()) as Shown));
  });

  it('continues what is not kept, on the same socket only', async () => {
    const client = await connect();
    const first = await client.create({ input: 'The blue bicycle belongs to Anna.', store: false });
    const body = { input, previous_response_id: first.id };
    const second = await client.create(body);
    expect(second.usage.input_tokens).toBeGreaterThan(first.usage.input_tokens);
    const stranger = await connect();
    expect(await stranger.ask({ type: 'response.create', ...body })).toMatchObject({
      type: 'error',
      status: 400,
      error: { code: 'previous_response_not_found' },
    });
    expect((await server.post('/v1/responses', body)).status).toBe(400);
    // The second one was kept, with the conversation that only this socket knew.
    const third = await server.post('/v1/responses', { input, previous_response_id: second.id });
    const { usage } = (await third.json()) as Shown;
    expect(usage.input_tokens).toBeGreaterThan(second.usage.input_tokens);
  });

  it('answers what it cannot take with an error, and goes on', async () => {
    const client = await connect();
    const cases: [object | string, object][] = [
      ['no json', { code: 'invalid_json' }],
      [{ type: 'response.cancel' }, { param: 'type' }],
      [{ input }, { param: 'type' }],
      [{ type: 'response.create', input, stream: true }, { param: 'stream' }],
      [{ type: 'response.create', input, background: false }, { param: 'background' }],
      [{ type: 'response.create', input: 7 }, { param: 'input' }],
      [{ type: 'response.create', input, max_output_tokens: 100_000 }, { code: 'context_length_exceeded' }],
    ];
    for (const [frame, error] of cases) {
      const { type, ...event } = await client.ask(frame);
      expect(type).toBe('error');
      expect(event, JSON.stringify(frame)).toMatchObject({ status: 400, error });
      expect((event.error as { code: string }).code).toEqual(expect.any(String));
    }
    client.socket.send(Buffer.from('binary'));
    await eventually(async () => client.ends.length === cases.length + 1);
    expect(textOf(await client.create({ input }))).toBe(counted);
  });

  it('lets only so many bytes wait', async () => {
    const client = await connect();
    const frame = {
      type: 'response.create',
      input,
      max_output_tokens: 20,
      metadata: { pad: 'x'.repeat(500) },
    };
    for (let i = 0; i < 60; i++) client.socket.send(JSON.stringify(frame));
    await eventually(async () => client.ends.length === 60);
    const refused = client.ends.filter(({ type }) => type === 'error');
    expect(refused.length).toBeGreaterThan(0);
    expect(refused.every(({ status }) => status === 429)).toBe(true);
    expect(client.ends.filter(({ type }) => type === 'response.incomplete').length).toBeGreaterThan(10);
  });

  it('frees the slot of a socket that closes', async () => {
    const client = await connect();
    client.socket.send(
      JSON.stringify({ type: 'response.create', input, max_output_tokens: 1900, ignore_eos: true }),
    );
    await eventually(async () => client.events.length > 0);
    client.socket.close();
    await eventually(async () => (await server.metric('slots_open')) === 0);
    await eventually(async () => (await server.metric('websockets')) === 0);
  });
});
