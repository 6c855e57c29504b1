import type { Prepared, PreparedPrompt } from './prepare/prepared.js';
import type { AnswerEvent } from './tools/tool-call-events.js';

/** Of a socket: requests that each go on behind those before. */
export interface Session {
  /** That the engine knows it by. */
  readonly name: string;
  /** The engine has been asked for something of it. */
  isBegun: boolean;
  /** The token that the model ended its last answer with, if it did. */
  endToken?: number | undefined;
}

/** The prompt as the next of the session: its messages bring the end of an answer that the model may have brought itself. */
export function inSession(
  { request, ...rest }: PreparedPrompt,
  kind: Prepared['kind'],
  { name, endToken }: Session,
  goesOn: boolean,
): PreparedPrompt {
  const { prompt, images } = request;
  const isEnded = goesOn && kind === 'chat' && endToken !== undefined && prompt[0] === endToken;
  const cut = isEnded ? 1 : 0;
  return {
    ...rest,
    request: {
      ...request,
      session: name,
      goesOn,
      prompt: prompt.subarray(cut),
      ...(images && {
        images: images.map((image) => ({ ...image, positions: image.positions.map((at) => at - cut) })),
      }),
    },
  };
}

/** Keeps what the model ended its answer with. */
export function noteEnd(session: Session, events: readonly AnswerEvent[]): void {
  for (const event of events) {
    // Until the model ends this answer too.
    if (event.type === 'tokens') session.endToken = undefined;
    if (event.type === 'finish' && typeof event.stoppedBy === 'number') session.endToken = event.stoppedBy;
  }
}
