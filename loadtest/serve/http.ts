import http from 'node:http';
import https from 'node:https';
import type { Target } from './target.js';

export interface Sent {
  readonly target: Target;
  readonly method: 'GET' | 'POST';
  readonly path: string;
  /** JSON text. */
  readonly body?: string | Buffer;
  readonly signal?: AbortSignal;
}

/** Keeps connections open, and opens as many as there are requests at once. */
const agentOptions = { keepAlive: true, maxSockets: Number.POSITIVE_INFINITY };
const plainAgent = new http.Agent(agentOptions);
const secureAgent = new https.Agent(agentOptions);

/** Resolves with the answer as soon as its head is there. */
export function send({ target, method, path, body, signal }: Sent): Promise<http.IncomingMessage> {
  const url = new URL(path, target.url);
  const secure = url.protocol === 'https:';
  return new Promise((resolve, reject) => {
    const request = (secure ? https : http).request(url, {
      method,
      agent: secure ? secureAgent : plainAgent,
      headers: {
        ...(body !== undefined && {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
        }),
        ...(target.apiKey !== undefined && { authorization: `Bearer ${target.apiKey}` }),
      },
    });
    let answer: http.IncomingMessage | undefined;
    request.on('response', (response) => {
      answer = response;
      resolve(response);
    });
    if (signal) {
      // Not as an option of the request: when all of the answer is there its connection is not its own any more, and is ended
      // with an error that nobody hears.
      const leave = (): void => {
        if (!answer?.complete) request.destroy();
      };
      if (signal.aborted) leave();
      signal.addEventListener('abort', leave);
      request.on('close', () => signal.removeEventListener('abort', leave));
    }
    request.on('error', (error) => reject(new Error(`${method} ${url.href}: ${reasonOf(error)}`)));
    request.setNoDelay(true);
    request.end(body);
  });
}

export async function readText(response: http.IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of response) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString();
}

/** The answer's JSON. Throws an Error with the server's words if the status is not 200. */
export async function requestJson(sent: Sent): Promise<unknown> {
  const response = await send(sent);
  const text = await readText(response);
  const asked = `${sent.method} ${new URL(sent.path, sent.target.url).href}`;
  if (response.statusCode !== 200) {
    throw new Error(`${asked}: ${response.statusCode} ${errorMessage(text)}`);
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${asked}: the answer is no JSON: ${text.slice(0, 80)}`);
  }
}

/** What an OpenAI error object says; the body itself, shortened, if it is none. */
export function errorMessage(text: string): string {
  try {
    const { error } = JSON.parse(text) as { error?: { message?: string } };
    if (typeof error?.message === 'string') return error.message;
  } catch {
    // No JSON: shown as it is.
  }
  return text.slice(0, 200);
}

/** Why no answer came. A name with several addresses fails with one error for each and no words of its own. */
function reasonOf(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'ECONNREFUSED':
      return 'nothing listens there';
    case 'ENOTFOUND':
      return 'there is no such host';
    case 'ECONNRESET':
      return 'the server closed the connection';
    default:
      return error.message || (error.code ?? 'the request failed');
  }
}
