import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestServer, testServer } from '../../support/server.js';
import { type ComplianceCase, complianceCases, haveApiDocuments, Schemas } from './api-documents.js';
import { eventsOf } from './server-events.js';

/** Cases that need what the server refuses by name, or that send nothing to it. */
const notHere = new Map([
  ['response-output-phase-schema', 'checks the document alone, no request is sent'],
  ['tool-calling', 'the demo model and its template know no tools'],
  ['image-input', 'images are refused'],
  ['compact-response', 'compaction is not there'],
  ['compact-missing-model', 'compaction is not there'],
]);

const title = haveApiDocuments
  ? 'Open Responses compliance cases'
  : 'Open Responses compliance cases (skipped: ../shared/data/api is not here)';

describe.skipIf(!haveApiDocuments)(title, () => {
  let server: TestServer;
  let schemas: Schemas;
  const cases = haveApiDocuments ? complianceCases() : [];
  beforeAll(async () => {
    server = await testServer();
    schemas = new Schemas();
  });
  afterAll(() => server.close());

  // The demo model is too small for these conversations, and would repeat itself to the end of its context.
  const send = ({ endpoint, streaming, request }: ComplianceCase) =>
    server.post(`/v1${endpoint}`, {
      ...request,
      model: 'demo',
      frequency_penalty: 2,
      ...(streaming && { stream: true }),
    });

  it.each(cases.filter(({ id }) => !notHere.has(id)))('$id', async (one) => {
    const answer = await send(one);
    expect(answer.status).toBe(200);
    const events = one.streaming ? eventsOf(await answer.text()) : [];
    expect(events.flatMap((event) => schemas.eventFaults(event))).toEqual([]);
    const response = (one.streaming ? events.at(-1)!.response : await answer.json()) as {
      status: string;
      output: unknown[];
    };
    expect(schemas.faults('ResponseResource', response)).toEqual([]);
    const checks: Record<string, () => void> = {
      hasOutput: () => expect(response.output.length).toBeGreaterThan(0),
      completedStatus: () => expect(response.status, JSON.stringify(response.output)).toBe('completed'),
      streamingEvents: () => expect(events.length).toBeGreaterThan(0),
      // Each event has been held against its schema above.
      streamingSchema: () => undefined,
    };
    for (const check of one.checks) checks[check]!();
  });

  it.each(['tool-calling', 'image-input'])('%s is refused by name', async (id) => {
    const answer = await send(cases.find((one) => one.id === id)!);
    expect(answer.status).toBe(400);
    const { error } = (await answer.json()) as { error: { code: string } };
    expect(error.code).toMatch(/^unsupported_/);
  });
});
