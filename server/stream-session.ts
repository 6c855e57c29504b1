import { randomUUID } from 'node:crypto';
import type { Prepared, PreparedPrompt } from './prepare/prepared.js';

/** Of a socket: requests that each go on behind those before. */
export interface Session {
  /** That the engine knows it by. */
  readonly name: string;
  /** Something has come of its first request, so that others go on behind it. */
  isAnswered: boolean;
}

export function newSession(): Session {
  return { name: `session-${randomUUID()}`, isAnswered: false };
}

/** The prompt as the next of the session: messages that go on bring the end of the answer before them. */
export function inSession(
  { request, ...rest }: PreparedPrompt,
  kind: Prepared['kind'],
  { name }: Session,
  goesOn: boolean,
): PreparedPrompt {
  const endsAnswer = goesOn && kind === 'chat';
  return { ...rest, request: { ...request, session: name, goesOn, endsAnswer } };
}
