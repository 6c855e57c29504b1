import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, it } from 'vitest';
import { testServer } from '../support/server.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

function arrayBufferBytes(): number {
  collectGarbage();
  return process.memoryUsage().arrayBuffers;
}

it.each([
  ['/v1/completions', { prompt: 'Hello', max_tokens: 2000 }],
  ['/v1/responses', { input: 'Hello', max_output_tokens: 2000 }],
])('a body of %s is not kept while it is answered', async (path, body) => {
  const server = await testServer();
  const { hostname, port } = new URL(server.url);
  const json = JSON.stringify({ ...body, stream: true, ignore_eos: true });
  const padding = Buffer.alloc(64 * 1024, ' ');
  const paddings = 128;
  const answers = 2;
  // Without what is left of servers before, which is collected soon, not at once.
  let before = arrayBufferBytes();
  for (let i = 0; i < 10; i++) {
    await setTimeout(20);
    before = Math.min(before, arrayBufferBytes());
  }
  const sockets = [];
  for (let i = 0; i < answers; i++) {
    // Not by fetch, which keeps the body itself.
    const socket = connect(Number(port), hostname);
    const length = json.length + paddings * padding.length;
    socket.write(`POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-length: ${length}\r\n\r\n${json}`);
    for (let part = 0; part < paddings; part++) socket.write(padding);
    const [head] = await once(socket, 'data');
    expect(String(head)).toMatch(/^HTTP\/1.1 200/);
    sockets.push(socket);
  }
  const held = () => arrayBufferBytes() - before;
  await expect.poll(held, { timeout: 10_000 }).toBeLessThan(paddings * padding.length);
  expect(await server.metric('num_requests_running')).toBe(answers);
  for (const socket of sockets) socket.destroy();
  await server.close();
});
