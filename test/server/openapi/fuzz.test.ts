import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import fc from '../../support/fast-check.js';
import { type JsonSchema, schemaArbitrary } from '../../support/schema-arbitrary.js';
import { eventually, type TestServer, testServer } from '../../support/server.js';

/*
 * What `/openapi.json` publishes is what is asked, with bodies that its schemas allow and bodies that they do not, and what
 * is answered must be what it says. `npm run test:fuzz` asks more, and `FUZZ_SEED` asks something else.
 */
const runs = Number(process.env.FUZZ_RUNS ?? 20);

interface Operation {
  readonly security?: readonly object[];
  readonly parameters?: readonly { name: string; in: 'path' | 'query'; schema: JsonSchema }[];
  readonly requestBody?: { content: { 'application/json': { schema: JsonSchema } } };
  readonly responses: Record<string, { content: Record<string, { schema?: JsonSchema }> }>;
}

interface OpenApi {
  readonly paths: Record<string, Record<string, Operation>>;
  readonly components: { schemas: Record<string, JsonSchema> };
}

const adminKey = 'an admin key of the tests';
let server: TestServer;
let document: OpenApi;
let ajv: Ajv2020;
/** Responses that are kept: the first one stays, the second one may be deleted. */
const kept: string[] = [];
const oddIds = ['resp_0', '%00', '..%2F..', 'a'.repeat(2000), '%E0%A4%A'];

beforeAll(async () => {
  server = await testServer({
    engine: { contextLength: 128, maxSequences: 16 },
    server: { adminKey, bodyLimit: 64 * 1024, maxChoices: 3 },
  });
  document = (await (await fetch(`${server.url}/openapi.json`)).json()) as OpenApi;
  ajv = new Ajv2020({ strict: false, validateFormats: false });
  ajv.addSchema({ $id: 'openapi', ...document });
  for (let i = 0; i < 2; i++) {
    const answer = await server.post('/v1/responses', { input: 'Hello!', max_output_tokens: 2 });
    kept.push(((await answer.json()) as { id: string }).id);
  }
});
afterAll(() => server.close());

interface Asked {
  readonly path: string;
  readonly init: RequestInit;
}

function arbitraryOf(path: string, method: string, operation: Operation): fc.Arbitrary<Asked> {
  const { schemas } = document.components;
  const known = path.includes('models') ? 'demo' : kept[method === 'delete' ? 1 : 0]!;
  const body = operation.requestBody?.content['application/json'].schema;
  const json = body ? schemaArbitrary(body, schemas).map((value) => JSON.stringify(value)) : undefined;
  const text = json
    ? fc.oneof(
        { weight: 30, arbitrary: json },
        { weight: 1, arbitrary: json.chain((whole) => fc.nat(whole.length).map((at) => whole.slice(0, at))) },
        { weight: 1, arbitrary: fc.string({ unit: 'binary' }) },
        { weight: 1, arbitrary: fc.constant('[1'.repeat(5000)) },
      )
    : fc.constant(undefined);
  const query = (operation.parameters ?? []).filter(({ in: place }) => place === 'query');
  return fc
    .record({
      id: fc.constantFrom(...[known, known, known, known], ...oddIds),
      text,
      type: fc.oneof(
        { weight: 25, arbitrary: fc.constant('application/json') },
        { weight: 1, arbitrary: fc.constantFrom('text/plain', 'application/json; charset=utf-16', 'x') },
      ),
      key: fc.oneof(
        { weight: 20, arbitrary: fc.constant(adminKey) },
        { weight: 1, arbitrary: fc.constantFrom('', 'wrong') },
      ),
      query: fc.record(
        Object.fromEntries(query.map(({ name, schema }) => [name, schemaArbitrary(schema, schemas, 1)])),
        { requiredKeys: [] },
      ),
    })
    .map(({ id, text, type, key, query }) => ({
      path: `${path.replace('{id}', id)}?${new URLSearchParams(
        Object.entries(query).map(([name, value]): [string, string] => [name, String(value)]),
      )}`,
      init: {
        method: method.toUpperCase(),
        headers: { authorization: `Bearer ${key}`, ...(text !== undefined && { 'content-type': type }) },
        ...(text !== undefined && { body: text }),
      },
    }));
}

async function checkAnswer(operation: Operation, response: Response): Promise<void> {
  const text = await response.text();
  const said = operation.responses[response.status];
  if (!said || response.status >= 500) throw new Error(`answered ${response.status}: ${text.slice(0, 500)}`);
  const [type = ''] = (response.headers.get('content-type') ?? '').split(';');
  if (!(type in said.content)) throw new Error(`answered ${response.status} with ${type}`);
  if (type === 'text/event-stream') {
    const events = text.trimEnd().split('\n\n');
    expect(events.at(-1)).toBe('data: [DONE]');
    for (const event of events.slice(0, -1)) JSON.parse(event.slice(event.indexOf('data: ') + 6));
  } else if (type === 'application/json') {
    const { $ref } = said.content[type]!.schema!;
    const validate = ajv.getSchema(`openapi${$ref}`)!;
    if (!validate(JSON.parse(text))) {
      throw new Error(`${$ref}: ${ajv.errorsText(validate.errors)}: ${text.slice(0, 500)}`);
    }
  }
}

async function expectAllFree(): Promise<void> {
  await eventually(async () => (await server.metric('active_requests')) === 0);
  await eventually(async () => (await server.metric('slots_open')) === 0);
}

describe('what /openapi.json publishes', () => {
  it('is what the server has, and says nothing of what it has not', async () => {
    expect(Object.keys(document.paths).length).toBeGreaterThan(15);
    const admin = Object.keys(document.paths).filter((path) => path.startsWith('/v1/admin'));
    expect(admin).toHaveLength(4);
    const plain = await testServer({}, false);
    const { paths } = (await (await fetch(`${plain.url}/openapi.json`)).json()) as OpenApi;
    expect(Object.keys(paths)).toEqual(Object.keys(document.paths).filter((path) => !admin.includes(path)));
    await plain.close();
    expect((await fetch(`${server.url}/v1/responses/x/input_items`, { method: 'PUT' })).status).toBe(405);
  });

  it('has what only some requests ask for', async () => {
    const asked: [string, object][] = [
      ['/v1/chat/completions', { messages: [{ role: 'user', content: 'Hello!' }], max_tokens: 2 }],
      ['/v1/completions', { prompt: 'Hello!', max_tokens: 2 }],
      ['/v1/responses', { input: 'Hello!', max_output_tokens: 2 }],
    ];
    for (const [path, body] of asked) {
      const answer = await server.post(path, { ...body, tandem: { kv: true } });
      expect(await answer.clone().text()).toContain('"kv":');
      await checkAnswer(document.paths[path]!.post!, answer);
    }
  });

  it('is answered as it says, whatever is asked', async () => {
    const seen = new Map<string, Set<number>>();
    for (const [path, operations] of Object.entries(document.paths)) {
      for (const [method, operation] of Object.entries(operations)) {
        if (path === '/v1/admin/drain') continue;
        const statuses = new Set<number>();
        seen.set(`${method} ${path}`, statuses);
        const property = fc.asyncProperty(arbitraryOf(path, method, operation), async (asked) => {
          const response = await fetch(server.url + asked.path, asked.init);
          statuses.add(response.status);
          await checkAnswer(operation, response);
        });
        const isCheap = !operation.requestBody;
        await fc.assert(property, { numRuns: isCheap ? Math.ceil(runs / 4) : runs });
      }
    }
    await expectAllFree();
    // It would be no use if everything were refused.
    for (const name of ['post /v1/chat/completions', 'post /v1/completions', 'post /v1/responses']) {
      expect([name, seen.get(name)!.has(200)]).toEqual([name, true]);
    }
  }, 36e5);

  it('holds on sockets: every frame is answered, and none ends the socket', async () => {
    const { schemas } = document.components;
    const kinds = {
      '/v1/responses': schemaArbitrary(schemas.ResponseBody!, schemas).map((body) => ({
        ...(body as object),
        type: 'response.create',
      })),
      '/v1/stream': fc.record({
        type: fc.oneof({ weight: 8, arbitrary: fc.constant('generate') }, fc.constantFrom('update', 'x', 7)),
        id: fc.uuid(),
        request: fc.oneof(
          schemaArbitrary(schemas.ChatBody!, schemas),
          schemaArbitrary(schemas.CompletionBody!, schemas),
        ),
      }),
    };
    for (const [path, arbitrary] of Object.entries(kinds)) {
      const socket = new WebSocket(server.url.replace('http', 'ws') + path);
      await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
      const property = fc.asyncProperty(arbitrary, async (frame) => {
        const ended = new Promise<void>((resolve, reject) => {
          const onMessage = (data: unknown): void => {
            const { type } = JSON.parse(String(data)) as { type: string };
            if (!/^(error|done|response\.(completed|incomplete|failed))$/.test(type)) return;
            socket.off('message', onMessage).off('close', reject);
            resolve();
          };
          socket.on('message', onMessage).once('close', reject);
        });
        socket.send(JSON.stringify(frame));
        await ended;
      });
      await fc.assert(property, { numRuns: runs });
      socket.close();
    }
    await eventually(async () => (await server.metric('websockets')) === 0);
    await expectAllFree();
  }, 36e5);

  it('holds while the server drains', async () => {
    const drain = () =>
      fetch(`${server.url}/v1/admin/drain`, {
        method: 'POST',
        headers: { authorization: `Bearer ${adminKey}` },
      });
    const operation = document.paths['/v1/admin/drain']!.post!;
    const answer = await drain();
    expect(answer.status).toBe(202);
    await checkAnswer(operation, answer);
    const refused = await server.post('/v1/completions', { prompt: 'x' });
    expect(refused.status).toBe(503);
    expect(Object.keys(document.paths['/v1/completions']!.post!.responses)).toContain('503');
  });
});
