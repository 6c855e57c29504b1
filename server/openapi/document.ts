import { z } from 'zod';
import { ErrorAnswer } from './answers.js';
import type { Endpoint } from './endpoints.js';

const reasons: Record<number, string> = {
  400: 'The body is no JSON, or a field is not valid.',
  401: 'No valid key.',
  404: 'There is no such thing.',
  408: 'The deadline of the request has passed.',
  413: 'The body is too large.',
  415: 'The body is of no JSON type.',
  429: 'The queue is full, or the key has used what it may.',
  500: 'It failed.',
  503: 'Nothing can be served now.',
};

/** The OpenAPI 3.1 document of a server with these endpoints, made from the schemas that check the bodies. */
export function openApiDocument(endpoints: readonly Endpoint[]): object {
  const schemas: Record<string, object> = { Error: answerSchema(ErrorAnswer) };
  const paths: Record<string, Record<string, object>> = {};
  for (const endpoint of endpoints) {
    const { method, path, body, answer } = endpoint;
    if (body) schemas[body.name] = bodySchema(body.schema);
    if (answer.json) schemas[answer.json.name] = answerSchema(answer.json.schema);
    paths[path] = { ...paths[path], [method.toLowerCase()]: operation(endpoint) };
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Tandem', version: '0.1.0', description: 'An LLM server. See docs/api.md.' },
    paths,
    components: {
      schemas,
      securitySchemes: {
        key: { type: 'http', scheme: 'bearer', description: 'Where the server has keys (--api-key).' },
        admin: { type: 'http', scheme: 'bearer', description: 'The admin key (--admin-key).' },
      },
    },
  };
}

function operation(endpoint: Endpoint): object {
  const { summary, access, path, body, query, answer } = endpoint;
  const parameters = [
    ...[...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
      name,
      in: 'path',
      required: true,
      schema: { type: 'string' },
    })),
    ...queryParameters(query),
  ];
  return {
    summary,
    ...(access !== 'everyone' && { security: [{ [access]: [] }] }),
    ...(parameters.length > 0 && { parameters }),
    ...(body && { requestBody: { required: true, content: { 'application/json': refTo(body.name) } } }),
    responses: {
      [answer.status]: {
        description: 'Done.',
        content: {
          ...(answer.json ? { 'application/json': refTo(answer.json.name) } : { 'text/plain': {} }),
          ...(answer.streams && { 'text/event-stream': {} }),
        },
      },
      ...Object.fromEntries(
        refusalsOf(endpoint).map((status) => [
          status,
          { description: reasons[status]!, content: { 'application/json': refTo('Error') } },
        ]),
      ),
    },
  };
}

function refusalsOf({ access, path, body, method, refusals }: Endpoint): number[] {
  const all = new Set(refusals);
  if (access !== 'everyone') all.add(401);
  if (path.includes('{')) all.add(400);
  if (body) for (const status of [400, 413, 415]) all.add(status);
  if (access === 'key' && method === 'POST') all.add(429);
  return [...all].sort((a, b) => a - b);
}

function queryParameters(query: z.ZodObject | undefined): object[] {
  if (!query) return [];
  const { properties = {} } = bodySchema(query) as { properties?: Record<string, object> };
  return Object.entries(properties).map(([name, schema]) => ({ name, in: 'query', required: false, schema }));
}

function refTo(name: string): object {
  return { schema: { $ref: `#/components/schemas/${name}` } };
}

/** What may be sent. What JSON Schema cannot say of a schema (a transform, a refinement) it leaves open. */
function bodySchema(schema: z.ZodType): object {
  return withoutDialect(
    z.toJSONSchema(schema, {
      io: 'input',
      unrepresentable: 'any',
      override: ({ zodSchema, jsonSchema, path }) => {
        void path;
        // What runs before the check of an item only fills in what may be left out of it.
        const { def } = zodSchema._zod;
        if (def.type === 'pipe' && def.in._zod.def.type === 'transform') {
          Object.assign(
            jsonSchema,
            withoutDialect(z.toJSONSchema(def.out, { io: 'input', unrepresentable: 'any' })),
          );
        }
      },
    }),
  );
}

/** What is answered: nothing that is not named, except where the schema says so. */
function answerSchema(schema: z.ZodType): object {
  return withoutDialect(z.toJSONSchema(schema, { io: 'output' }));
}

function withoutDialect({ $schema: _, ...rest }: Record<string, unknown>): object {
  return rest;
}
