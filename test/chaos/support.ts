import { connect, type Socket } from 'node:net';
import { expect } from 'vitest';
import { eventually, type TestServer } from '../support/server.js';

/** `npm test` has the short form of everything; `npm run test:chaos` the long one. */
export const isLong = process.env.CHAOS === 'long';

const counted = '1, 2, 3';
const count = { messages: [{ role: 'user', content: 'Count to 10.' }], stop: ', 4' };

/** What someone else asks meanwhile must be answered as ever. */
export async function expectOthersServed(url: string): Promise<void> {
  const answer = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(count),
  });
  expect(answer.status).toBe(200);
  const { choices } = (await answer.json()) as { choices: { message: { content: string } }[] };
  expect(choices[0]!.message.content).toBe(counted);
}

/** When all is over nothing is left: no request, no slot, no page that is not the prefix cache's, no connection. */
export async function expectNothingLeaked(server: TestServer): Promise<void> {
  for (const name of [
    'active_requests',
    'slots_open',
    'num_requests_waiting',
    'websockets',
    'kv_swapped_bytes',
  ]) {
    await eventually(async () => (await server.metric(name)) === 0);
  }
  await eventually(
    async () => (await server.metric('kv_blocks_used')) === (await server.metric('prefix_cache_blocks')),
  );
}

/** Sends bytes as they are, and gives all that comes back until the server or `until` ends it. */
export function sendRaw(
  url: string,
  bytes: string | Buffer,
  until: (received: string) => boolean = () => false,
): Promise<string> {
  return new Promise((resolve) => {
    let received = '';
    const socket = connect(Number(new URL(url).port), '127.0.0.1', () => socket.write(bytes));
    socket.on('data', (data) => {
      received += data;
      if (until(received)) socket.destroy();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(received));
  });
}

/** A connection that has been made. */
export function openConnection(url: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1', () => resolve(socket));
    // Read, so that its end is noticed.
    socket.on('error', reject).resume();
  });
}

export function rawPost(path: string, body: string): string {
  return (
    `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n` +
    `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
  );
}
