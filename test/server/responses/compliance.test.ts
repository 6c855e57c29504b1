import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Folder } from '../../scripts/support.js';
import { type TestServer, testServer } from '../../support/server.js';
import { toolTemplate } from '../../support/tool-template.js';
import { type ComplianceCase, complianceCases, haveApiDocuments, Schemas } from './api-documents.js';
import { eventsOf } from './server-events.js';

/** One sends nothing to a server, and one needs a model that reads images: both are below. */
const others = ['response-output-phase-schema', 'image-input'];

const title = haveApiDocuments
  ? 'Open Responses compliance cases'
  : 'Open Responses compliance cases (skipped: ../shared/data/api is not here)';

describe.skipIf(!haveApiDocuments)(title, () => {
  const folder = new Folder({ 'tools.jinja': toolTemplate });
  let server: TestServer;
  let withTools: TestServer;
  let schemas: Schemas;
  const cases = haveApiDocuments ? complianceCases() : [];
  beforeAll(async () => {
    server = await testServer();
    withTools = await testServer({ model: { chatTemplate: folder.at('tools.jinja') } });
    schemas = new Schemas();
  });
  afterAll(async () => {
    await Promise.all([server.close(), withTools.close()]);
    folder.close();
  });

  // The demo model is too small for these conversations: it would repeat itself to the end of its context, also within the
  // arguments of a call, and calls no tool of its own accord.
  const send = ({ endpoint, streaming, request }: ComplianceCase) =>
    ('tools' in request ? withTools : server).post(`/v1${endpoint}`, {
      ...request,
      ...('model' in request && { model: 'demo' }),
      ...('tools' in request
        ? { tool_choice: 'required', temperature: 2, seed: 5 }
        : { frequency_penalty: 2 }),
      ...(streaming && { stream: true }),
    });

  it.each(cases.filter(({ id }) => !others.includes(id)))('$id', async (one) => {
    const answer = await send(one);
    expect(one.expectedStatuses ?? [200]).toContain(answer.status);
    if (answer.status !== 200) return;
    const events = one.streaming ? eventsOf(await answer.text()) : [];
    expect(events.flatMap((event) => schemas.eventFaults(event))).toEqual([]);
    const response = (one.streaming ? events.at(-1)!.response : await answer.json()) as {
      object: string;
      status: string;
      output: { type: string }[];
    };
    const schema = one.endpoint === '/responses/compact' ? 'CompactResource' : 'ResponseResource';
    expect(schemas.faults(schema, response)).toEqual([]);
    const hasType = (type: string) => () =>
      expect(response.output).toContainEqual(expect.objectContaining({ type }));
    const checks: Record<string, () => void> = {
      hasOutput: () => expect(response.output.length).toBeGreaterThan(0),
      completedStatus: () => expect(response.status, JSON.stringify(response.output)).toBe('completed'),
      compactObject: () => expect(response.object).toBe('response.compaction'),
      'hasOutputType(function_call)': hasType('function_call'),
      'hasOutputType(compaction)': hasType('compaction'),
      streamingEvents: () => expect(events.length).toBeGreaterThan(0),
      // Each event has been held against its schema above.
      streamingSchema: () => undefined,
    };
    for (const check of one.checks) checks[check]!();
  });

  // As it stands among the cases: a response made by hand is held against schemas. Here also against what the server publishes.
  it('response-output-phase-schema', async () => {
    const answer = await send(cases.find(({ id }) => id === 'basic-response')!);
    const response = (await answer.json()) as { output: object[] };
    const published = (await (await fetch(`${server.url}/openapi.json`)).json()) as object;
    const ajv = new Ajv2020({ strict: false, validateFormats: false });
    ajv.addSchema({ $id: 'openapi', ...published });
    const isPublished = ajv.getSchema('openapi#/components/schemas/Response')!;
    const allow = (...phases: string[]) => {
      const phased = { ...response, output: phases.map((phase) => ({ ...response.output[0], phase })) };
      return [schemas.faults('ResponseResource', phased).length === 0, isPublished(phased)];
    };
    expect(allow('commentary', 'final_answer')).toEqual([true, true]);
    expect(allow('commentary', 'afterthought')).toEqual([false, false]);
  });

  it('says by name that the model reads no images', async () => {
    const answer = await send(cases.find(({ id }) => id === 'image-input')!);
    expect(answer.status).toBe(400);
    const { error } = (await answer.json()) as { error: { code: string } };
    expect(error.code).toMatch(/^unsupported_/);
  });
});
