import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { answerClientErrors } from '../../server/client-errors.js';
import { Metrics } from '../../server/metrics.js';
import { OpenAnswers } from '../../server/open-answers.js';

describe('a connection on which no request comes', () => {
  const metrics = new Metrics();
  let http: Server;
  beforeAll(async () => {
    http = createServer({ headersTimeout: 200, requestTimeout: 200, connectionsCheckingInterval: 5 });
    answerClientErrors(http, new OpenAnswers(http), metrics);
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  });
  afterAll(() => http.close());

  /** All that is said on a connection until it is closed. */
  function heard(said: string): Promise<string> {
    return new Promise((resolve) => {
      let text = '';
      const socket = connect((http.address() as AddressInfo).port, '127.0.0.1', () => socket.write(said));
      socket.on('data', (data) => {
        text += String(data);
      });
      socket.on('close', () => resolve(text));
    });
  }

  it('is closed without a word, which its client would take for the answer to what it asks next', async () => {
    expect(await heard('')).toBe('');
    expect(await metrics.text(undefined)).toContain('tandem:malformed_requests_total 0\n');
  });

  it('is told so where one has begun', async () => {
    expect(await heard('GET / HTTP/1.1\r\nhost:')).toMatch(/^HTTP\/1.1 408 Request Timeout/);
    expect(await metrics.text(undefined)).toContain('tandem:malformed_requests_total 1\n');
  });
});
