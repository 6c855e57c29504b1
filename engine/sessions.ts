import { EngineError } from './errors.js';
import type { PlacedImage } from './images/embed-prompt.js';
import { type ParkedKv, Session } from './kv/session.js';
import type { GenerateRequest, TokenEvent } from './types.js';

export type Listener = (events: readonly TokenEvent[]) => void;

interface SessionsOptions {
  /** The request, its prompt behind all tokens of its session. */
  readonly start: (request: GenerateRequest, onEvents: Listener, session: Session) => void;
  readonly drop: (parked: ParkedKv) => void;
  readonly release: (images: readonly PlacedImage[]) => void;
}

/** The sessions that were not ended, by name. */
export class Sessions {
  readonly #sessions = new Map<string, Session>();
  /** Requests that wait until the one before has left its slot, by id. */
  readonly #waiting = new Map<string, { readonly session: Session; readonly onEvents: Listener }>();

  constructor(
    private readonly isPossible: boolean,
    private readonly options: SessionsOptions,
  ) {}

  submit(request: GenerateRequest, onEvents: Listener): void {
    const name = request.session!;
    const known = this.#sessions.get(name);
    const session = known ?? new Session();
    const refusal = this.#refusal(request, session, known !== undefined);
    if (refusal) {
      // Never inside `submit`: a listener may not be ready yet.
      queueMicrotask(() => onEvents([{ type: 'error', error: refusal }]));
      return;
    }
    this.#sessions.set(name, session);
    this.#waiting.set(request.id, { session, onEvents });
    session.whenFree(() => {
      this.#waiting.delete(request.id);
      const { tokens } = session;
      // Not before now: of an answer that was cancelled nobody else knows how far it came.
      const isEnded = request.endsAnswer === true && tokens.at(-1) === request.prompt[0];
      const begin = tokens.length - (isEnded ? 1 : 0);
      const prompt = new Int32Array(begin + request.prompt.length);
      prompt.set(tokens);
      prompt.set(request.prompt, begin);
      const images = request.images?.map((image) => ({
        ...image,
        positions: image.positions.map((position) => begin + position),
      }));
      this.options.start({ ...request, prompt, ...(images && { images }) }, onEvents, session);
    });
  }

  cancelWaiting(id: string): void {
    const session = this.#waiting.get(id)?.session;
    if (!session) return;
    session.forgetWaiting();
    this.#waiting.delete(id);
    this.checkUnused(session);
  }

  /** Lets go of what a session that was ended has of images, once no request of it runs. */
  checkUnused(session: Session): void {
    this.options.release(session.takeUnused());
  }

  /** None of those that wait will start any more. */
  failWaiting(error: EngineError): void {
    for (const [id, { onEvents }] of [...this.#waiting]) {
      this.cancelWaiting(id);
      onEvents([{ type: 'error', error }]);
    }
  }

  end(name: string): void {
    const session = this.#sessions.get(name);
    if (!session) return;
    this.#sessions.delete(name);
    const parked = session.close();
    if (parked) this.options.drop(parked);
    this.checkUnused(session);
  }

  #refusal(request: GenerateRequest, session: Session, isKnown: boolean): EngineError | undefined {
    const refused = (message: string) => new EngineError('invalid_request', message);
    if (!this.isPossible) return refused('A session needs a server that runs with --kv pack.');
    if (request.goesOn && !isKnown) {
      return refused(
        'The session is lost: the engine was started anew since. End it, and begin another one.',
      );
    }
    if (session.isRunning) return refused(`A request of the session ${request.session} is running already.`);
    if (request.n > 1) return refused('A request of a session has one choice: n must be 1.');
    if (request.promptLogprobs) return refused('The prompt of a session cannot be scored.');
    return undefined;
  }
}
