import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { streamCompletion } from '../../loadtest/serve/completion-stream.js';
import { closedLoop, openLoop } from '../../loadtest/serve/load.js';
import { servedModel } from '../../loadtest/serve/target.js';

const servers: Server[] = [];

/** A server that answers as a test tells it. */
async function target(listener: RequestListener) {
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

const request = { model: 'm', prompt: [1, 2, 3], maxTokens: 2 };
const piece = (text: string) => `data: ${JSON.stringify({ choices: [{ text }] })}\n\n`;
const usage = `data: ${JSON.stringify({ choices: [], usage: { prompt_tokens: 3, completion_tokens: 2 } })}\n\n`;
const streaming =
  (...parts: string[]): RequestListener =>
  (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for (const part of parts) response.write(part);
    response.end();
  };

describe('a streamed completion', () => {
  it('is traced: pieces of text, and the tokens that the server counted', async () => {
    const seen: number[] = [];
    const server = await target(streaming(piece('a'), piece(''), piece('b'), usage, 'data: [DONE]\n\n'));
    const trace = await streamCompletion(server, request, { onPiece: (at) => seen.push(at) });
    expect(trace.error).toBeUndefined();
    expect(trace).toMatchObject({ promptTokens: 3, completionTokens: 2, pieceTimes: seen });
    expect(seen).toHaveLength(2);
    expect(trace.dueAt).toBeLessThanOrEqual(seen[0]!);
    expect(trace.endedAt).toBeGreaterThanOrEqual(seen[1]!);
  });

  it('can be left when all of it has arrived already, and its connection is as good as before', async () => {
    const whole = `${piece('a')}${piece('b')}${usage}data: [DONE]\n\n`;
    const connections = new Set<unknown>();
    const server = await target((incoming, response) => {
      connections.add(incoming.socket);
      response.writeHead(200, { 'content-length': whole.length }).end(whole);
    });
    for (let i = 0; i < 20; i++) {
      const controller = new AbortController();
      // An error that nobody listens to would end the process.
      const onPiece = () => controller.abort();
      const trace = await streamCompletion(server, request, { signal: controller.signal, onPiece });
      expect(trace.error).toBeUndefined();
    }
    expect(connections.size).toBe(1);
  });

  it('asks for a stream that runs to its last token, with the key', async () => {
    let asked: { body: string; key: string | undefined } | undefined;
    const server = await target(async (incoming, response) => {
      let body = '';
      for await (const part of incoming) body += part;
      asked = { body, key: incoming.headers.authorization };
      streaming('data: [DONE]\n\n')(incoming, response);
    });
    await streamCompletion({ ...server, apiKey: 'secret' }, request);
    expect(asked!.key).toBe('Bearer secret');
    expect(JSON.parse(asked!.body)).toMatchObject({
      model: 'm',
      prompt: [1, 2, 3],
      max_tokens: 2,
      ignore_eos: true,
      stream: true,
    });
  });

  it.each<[string, RequestListener, string]>([
    ['is cut off', streaming(piece('a')), 'the stream ended without [DONE]'],
    ['ends with an error', streaming(piece('a'), 'data: {"error":{"message":"lost"}}\n\n'), 'lost'],
    [
      'is refused',
      (_request, response) => response.writeHead(429).end('{"error":{"message":"busy"}}'),
      '429 busy',
    ],
    ['is no API', (_request, response) => response.writeHead(404).end('<html>'), '404 <html>'],
    ['is hung up on', (incoming) => incoming.socket.destroy(), 'the server closed the connection'],
  ])('has failed when it %s', async (_, listener, message) => {
    const { error } = await streamCompletion(await target(listener), request);
    expect(error).toContain(message);
  });

  it('that is ended by its client has not failed', async () => {
    const stop = new AbortController();
    const server = await target((_request, response) => {
      response.writeHead(200).write(piece('a'));
    });
    const trace = await streamCompletion(server, request, {
      signal: stop.signal,
      onPiece: () => stop.abort(),
    });
    expect(trace.error).toBeUndefined();
    expect(trace.pieceTimes).toHaveLength(1);
  });
});

describe('a load', () => {
  /** Counts how many requests are open at once; each is answered once `enough` have come. */
  async function counting(enough: number) {
    const open: (() => void)[] = [];
    let most = 0;
    const server = await target((incoming, response) => {
      open.push(() => streaming(piece('a'), 'data: [DONE]\n\n')(incoming, response));
      most = Math.max(most, open.length);
      if (open.length >= enough) for (const answer of open.splice(0)) answer();
    });
    return { server, most: () => most };
  }
  const requests = Array.from({ length: 12 }, () => request);

  it('in a closed loop has as many requests open as there are clients', async () => {
    const { server, most } = await counting(3);
    const { traces, seconds } = await closedLoop(server, requests, 3);
    expect(traces.filter(({ error }) => error === undefined)).toHaveLength(12);
    expect(most()).toBe(3);
    expect(seconds).toBeGreaterThan(0);
  });

  it('in an open loop does not wait for answers, and counts from when each was due', async () => {
    // Nothing is answered before the last has arrived.
    const { server, most } = await counting(12);
    const { traces } = await openLoop(
      server,
      requests,
      requests.map((_, index) => index / 500),
    );
    expect(most()).toBe(12);
    const dues = traces.map(({ dueAt }) => dueAt);
    expect(dues).toEqual([...dues].sort((a, b) => a - b));
    expect(traces.every(({ dueAt, pieceTimes }) => pieceTimes[0]! >= dueAt)).toBe(true);
  });
});

describe('the served model', () => {
  it('is the first that the server lists, with its context', async () => {
    const data = [
      { id: 'one', max_model_len: 64 },
      { id: 'two', max_model_len: 32 },
    ];
    const server = await target((_request, response) => response.end(JSON.stringify({ data })));
    expect(await servedModel(server)).toEqual({ id: 'one', contextLength: 64 });
  });

  it('is an error in a line where there is none', async () => {
    const empty = await target((_request, response) => response.end('{"data":[]}'));
    await expect(servedModel(empty)).rejects.toThrow('lists no model with its max_model_len');
    const page = await target((_request, response) => response.end('<html>'));
    await expect(servedModel(page)).rejects.toThrow('the answer is no JSON: <html>');
  });
});
