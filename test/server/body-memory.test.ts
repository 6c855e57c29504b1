import { once } from 'node:events';
import { connect } from 'node:net';
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

it.each(['/v1/completions', '/v1/responses'])(
  'a body of %s is not kept while it is answered',
  async (path) => {
    const server = await testServer();
    const { hostname, port } = new URL(server.url);
    const body = { prompt: 'Hello', input: 'Hello', stream: true, max_tokens: 1500, ignore_eos: true };
    const json = JSON.stringify(
      path === '/v1/completions'
        ? { ...body, input: undefined }
        : { input: 'Hello', stream: true, max_output_tokens: 1500, ignore_eos: true },
    );
    const padding = Buffer.alloc(64 * 1024, ' ');
    const paddings = 128;
    const answers = 3;
    const before = arrayBufferBytes();
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
    expect(await server.metric('num_requests_running')).toBe(answers);
    expect(arrayBufferBytes() - before).toBeLessThan(paddings * padding.length);
    for (const socket of sockets) socket.destroy();
    await server.close();
  },
);
