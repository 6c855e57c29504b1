import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Folder } from '../../scripts/support.js';
import { type TestServer, testServer } from '../../support/server.js';
import { toolTemplate } from '../../support/tool-template.js';
import { makeVisionModel } from '../../support/vision-model.js';
import { type ComplianceCase, complianceCases, haveApiDocuments, Schemas } from './api-documents.js';
import { eventsOf } from './server-events.js';

/** It sends nothing to a server: it is below. */
const others = ['response-output-phase-schema'];

const title = haveApiDocuments
  ? 'Open Responses compliance cases'
  : 'Open Responses compliance cases (skipped: ../shared/data/api is not here)';

describe.skipIf(!haveApiDocuments)(title, () => {
  const folder = new Folder({ 'tools.jinja': toolTemplate });
  let server: TestServer;
  let withTools: TestServer;
  let withImages: TestServer;
  let schemas: Schemas;
  const cases = haveApiDocuments ? complianceCases() : [];
  beforeAll(async () => {
    server = await testServer();
    withTools = await testServer({ model: { chatTemplate: folder.at('tools.jinja') } });
    makeVisionModel(folder.at('seer'));
    withImages = await testServer({ model: { path: folder.at('seer'), servedModelName: 'demo' } });
    schemas = new Schemas();
  });
  afterAll(async () => {
    await Promise.all([server.close(), withTools.close(), withImages.close()]);
    folder.close();
  });

  // The demo model is too small for these conversations: it would repeat itself to the end of its context, also within the
  // arguments of a call, and calls no tool of its own accord.
  // The one that reads images has random weights: it writes until it is told to end.
  const send = ({ id, endpoint, streaming, request }: ComplianceCase, to = serverOf(id, request)) =>
    to.post(`/v1${endpoint}`, {
      ...request,
      ...('model' in request && { model: 'demo' }),
      ...('tools' in request
        ? { tool_choice: 'required', temperature: 2, seed: 5 }
        : { frequency_penalty: 2 }),
      ...(to === withImages && { grammar: 'root ::= "A square."' }),
      ...(streaming && { stream: true }),
    });
  const serverOf = (id: string, request: object) => {
    if (id === 'image-input') return withImages;
    return 'tools' in request ? withTools : server;
  };

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

  it('says by name where the model reads no images', async () => {
    const answer = await send(cases.find(({ id }) => id === 'image-input')!, server);
    expect(answer.status).toBe(400);
    const { error } = (await answer.json()) as { error: { code: string } };
    expect(error.code).toMatch(/^unsupported_/);
  });
});
