import type { Prepared, PreparedPrompt } from './prepare/prepared.js';

/** Of a socket: requests that each go on behind those before. */
export interface Session {
  /** That the engine knows it by. */
  readonly name: string;
  /** The engine has been asked for something of it. */
  isBegun: boolean;
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
