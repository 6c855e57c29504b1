import type { z } from 'zod';
import { ChatBody, CompletionBody, DetokenizeBody, TokenizeBody } from '../openai/schemas.js';
import { CompactBody, ResponseBody } from '../responses/schemas.js';
import { LogLevelBody, PolicyBody } from '../routes/admin.js';
import { InputItemsQuery } from '../routes/responses.js';
import {
  AdminState,
  ChatCompletion,
  Compaction,
  Completion,
  DeletedResponse,
  Document,
  Draining,
  Health,
  ItemList,
  LogLevel,
  Model,
  ModelList,
  Ready,
  ResponseAnswer,
  SchedulerReport,
  Text,
  Tokens,
} from './answers.js';

/** An endpoint as it is published, and as the 405 of a wrong method knows it. */
export interface Endpoint {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** With parameters as OpenAPI has them: `/v1/models/{id}`. */
  readonly path: string;
  readonly summary: string;
  /** Who may ask. */
  readonly access: 'everyone' | 'key' | 'admin';
  readonly body?: { readonly name: string; readonly schema: z.ZodType };
  readonly query?: z.ZodObject;
  readonly answer: {
    readonly status: number;
    /** Absent: text. */
    readonly json?: { readonly name: string; readonly schema: z.ZodType };
    /** May come as server-sent events too. */
    readonly streams?: boolean;
  };
  /** Beside those that follow from the access and the body. */
  readonly refusals: readonly number[];
}

/** Of what a model is needed for: none such, none yet. */
const ofModel = [404, 503];
/** Of what is generated: the deadline, a step that failed. */
const ofTokens = [...ofModel, 408, 500];

export const endpoints: readonly Endpoint[] = [
  {
    method: 'POST',
    path: '/v1/chat/completions',
    summary: 'Answers a conversation.',
    access: 'key',
    body: { name: 'ChatBody', schema: ChatBody },
    answer: { status: 200, json: { name: 'ChatCompletion', schema: ChatCompletion }, streams: true },
    refusals: ofTokens,
  },
  {
    method: 'POST',
    path: '/v1/completions',
    summary: 'Continues text or token ids.',
    access: 'key',
    body: { name: 'CompletionBody', schema: CompletionBody },
    answer: { status: 200, json: { name: 'Completion', schema: Completion }, streams: true },
    refusals: ofTokens,
  },
  {
    method: 'POST',
    path: '/v1/responses',
    summary: 'Answers, and keeps the conversation.',
    access: 'key',
    body: { name: 'ResponseBody', schema: ResponseBody },
    answer: { status: 200, json: { name: 'Response', schema: ResponseAnswer }, streams: true },
    refusals: ofTokens,
  },
  {
    method: 'POST',
    path: '/v1/responses/compact',
    summary: 'A conversation as a summary that takes its place.',
    access: 'key',
    body: { name: 'CompactBody', schema: CompactBody },
    answer: { status: 200, json: { name: 'Compaction', schema: Compaction } },
    refusals: ofTokens,
  },
  {
    method: 'GET',
    path: '/v1/responses/{id}',
    summary: 'A response that was kept.',
    access: 'key',
    answer: { status: 200, json: { name: 'Response', schema: ResponseAnswer } },
    refusals: [400, 404, 500],
  },
  {
    method: 'DELETE',
    path: '/v1/responses/{id}',
    summary: 'Deletes a response that was kept.',
    access: 'key',
    answer: { status: 200, json: { name: 'DeletedResponse', schema: DeletedResponse } },
    refusals: [404, 500],
  },
  {
    method: 'GET',
    path: '/v1/responses/{id}/input_items',
    summary: 'All items that a response was made from.',
    access: 'key',
    query: InputItemsQuery,
    answer: { status: 200, json: { name: 'ItemList', schema: ItemList } },
    refusals: [400, 404, 500],
  },
  {
    method: 'GET',
    path: '/v1/models',
    summary: 'The model that is served.',
    access: 'key',
    answer: { status: 200, json: { name: 'ModelList', schema: ModelList } },
    refusals: [],
  },
  {
    method: 'GET',
    path: '/v1/models/{id}',
    summary: 'A model by its name.',
    access: 'key',
    answer: { status: 200, json: { name: 'Model', schema: Model } },
    refusals: ofModel,
  },
  {
    method: 'POST',
    path: '/tokenize',
    summary: 'The tokens of a text or of messages.',
    access: 'key',
    body: { name: 'TokenizeBody', schema: TokenizeBody },
    answer: { status: 200, json: { name: 'Tokens', schema: Tokens } },
    refusals: ofModel,
  },
  {
    method: 'POST',
    path: '/detokenize',
    summary: 'The text of tokens.',
    access: 'key',
    body: { name: 'DetokenizeBody', schema: DetokenizeBody },
    answer: { status: 200, json: { name: 'Text', schema: Text } },
    refusals: ofModel,
  },
  {
    method: 'GET',
    path: '/debug/scheduler',
    summary: 'How the device is shared now, and why.',
    access: 'key',
    answer: { status: 200, json: { name: 'SchedulerReport', schema: SchedulerReport } },
    refusals: [503],
  },
  {
    method: 'GET',
    path: '/health',
    summary: 'The process is alive.',
    access: 'everyone',
    answer: { status: 200, json: { name: 'Health', schema: Health } },
    refusals: [],
  },
  {
    method: 'GET',
    path: '/ready',
    summary: 'A request would be served now.',
    access: 'everyone',
    answer: { status: 200, json: { name: 'Ready', schema: Ready } },
    refusals: [503],
  },
  {
    method: 'GET',
    path: '/metrics',
    summary: 'Metrics for Prometheus.',
    access: 'everyone',
    answer: { status: 200 },
    refusals: [],
  },
  {
    method: 'GET',
    path: '/openapi.json',
    summary: 'This document.',
    access: 'everyone',
    answer: { status: 200, json: { name: 'Document', schema: Document } },
    refusals: [],
  },
  {
    method: 'GET',
    path: '/v1/admin',
    summary: 'The state of the server, and what each key has used.',
    access: 'admin',
    answer: { status: 200, json: { name: 'AdminState', schema: AdminState } },
    refusals: [],
  },
  {
    method: 'POST',
    path: '/v1/admin/drain',
    summary: 'Takes no new work, lets what runs finish, and ends the process.',
    access: 'admin',
    answer: { status: 202, json: { name: 'Draining', schema: Draining } },
    refusals: [],
  },
  {
    method: 'POST',
    path: '/v1/admin/policy',
    summary: 'Changes how prompts and running streams share the device.',
    access: 'admin',
    body: { name: 'PolicyBody', schema: PolicyBody },
    answer: { status: 200, json: { name: 'SchedulerReport', schema: SchedulerReport } },
    refusals: [503],
  },
  {
    method: 'POST',
    path: '/v1/admin/log-level',
    summary: 'Changes the least level that is logged.',
    access: 'admin',
    body: { name: 'LogLevelBody', schema: LogLevelBody },
    answer: { status: 200, json: { name: 'LogLevel', schema: LogLevel } },
    refusals: [],
  },
];

/** Of pages for people, which are none of the API's endpoints. */
export const pagePaths: readonly string[] = ['/', '/dashboard'];

/** Those of a server: without an admin key it has no admin endpoints. */
export function endpointsOf(hasAdmin: boolean): Endpoint[] {
  return endpoints.filter(({ access }) => hasAdmin || access !== 'admin');
}
