import { requestFault } from './check-request.js';
import { Deadlines } from './deadlines.js';
import type { DeviceLostError } from './device/device.js';
import { EngineLoop, type LoopParts } from './engine-loop.js';
import { EngineError } from './errors.js';
import { OpenGrammars } from './grammar/open-grammars.js';
import { embedPrompt, type PlacedImage } from './images/embed-prompt.js';
import type { ImageStore } from './images/image-store.js';
import type { Session } from './kv/session.js';
import type { Scheduling } from './open-scheduling.js';
import { RequestState } from './request-state.js';
import { StopConditions } from './sampling/stop-conditions.js';
import { Sequence } from './sequence.js';
import { type Listener, Sessions } from './sessions.js';
import type {
  Engine,
  EngineInfo,
  EngineStats,
  GenerateRequest,
  PolicyChange,
  PromptImage,
  SchedulerReport,
} from './types.js';

export interface EngineParts extends Omit<LoopParts, 'onEvents' | 'onDeviceLost'> {
  readonly info: EngineInfo;
  /** Absent where the model reads no images. */
  readonly images?: ImageStore | undefined;
  /** With the settings changed, and those of earlier changes. */
  readonly reopenScheduling: (change: PolicyChange) => Scheduling;
  /** How long it took to load, which is when a lost device may be back. */
  readonly reopenSeconds: number;
  /** Requests that may wait before new ones are refused. */
  readonly maxQueue: number;
  /** Longest wait to start, in ms; 0: no limit. */
  readonly queueTimeoutMs: number;
}

/** The engine in its own thread: admits requests, and hands their sequences to the loop that runs them. */
export class LocalEngine implements Engine {
  readonly info: EngineInfo;
  readonly lost: Promise<EngineError>;
  #onLost!: (error: EngineError) => void;
  #loss: EngineError | undefined;
  readonly #parts: EngineParts;
  readonly #requests = new Map<string, RequestState>();
  readonly #loop: EngineLoop;
  readonly #grammars: OpenGrammars;
  readonly #sessions: Sessions;
  readonly #deadlines: Deadlines;
  #nextSerial = 0;
  #draining = false;
  #onIdle: (() => void) | undefined;

  constructor(parts: EngineParts) {
    this.#parts = parts;
    this.info = parts.info;
    this.#grammars = new OpenGrammars(parts.device);
    this.lost = new Promise((resolve) => {
      this.#onLost = resolve;
    });
    this.#sessions = new Sessions(parts.partitions !== undefined, {
      start: (request, onEvents, session) => this.#submit(request, onEvents, session),
      drop: (parked) => this.#loop.dropParked(parked),
      release: (images) => this.#parts.images?.release(images, true),
    });
    this.#loop = new EngineLoop({
      ...parts,
      onEvents: (request) => this.#afterEvents(request),
      onDeviceLost: (error) => this.#lose(error),
    });
    this.#deadlines = new Deadlines({
      queueTimeoutMs: parts.queueTimeoutMs,
      now: parts.now,
      requests: () => this.#requests.values(),
      retryAfterSeconds: () => this.#loop.retryAfterSeconds(),
      fail: (state, error) => this.#fail(state, error),
    });
  }

  submit(request: GenerateRequest, onEvents: Listener): void {
    // On a lost device no slot of a session comes free any more that it could wait for.
    if (request.session === undefined || this.#loss) this.#submit(request, onEvents);
    else this.#sessions.submit(request, onEvents);
  }

  #submit({ images, ...request }: GenerateRequest, onEvents: Listener, session?: Session): void {
    const state = new RequestState(request, this.#parts.now(), this.#parts.tokenizer, onEvents, session);
    const refusal =
      this.#refusal(request, session) ?? this.#openGrammar(state) ?? this.#useImages(state, images);
    if (refusal) {
      this.#leave(session);
      state.fail(refusal);
      // Never inside `submit`: a listener may not be ready yet.
      queueMicrotask(() => state.flush());
      return;
    }
    this.#requests.set(request.id, state);
    const placed = [...(session?.images ?? []), ...state.images];
    if (placed.length > 0) void this.#startWithImages(state, placed);
    else this.#start(state);
    this.#deadlines.watch();
  }

  /** Its images are encoded before it waits for its turn; others go ahead meanwhile. */
  async #startWithImages(state: RequestState, images: readonly PlacedImage[]): Promise<void> {
    try {
      const { tokensPerTile } = this.info.spec.vision!;
      const embeddedPrompt = await embedPrompt(state.request.prompt, images, tokensPerTile);
      if (state.ended) return;
      state.embeddedPrompt = embeddedPrompt;
      this.#start(state);
    } catch (error) {
      if (!state.ended) this.#fail(state, error as EngineError);
    }
  }

  #start(state: RequestState): void {
    const { request } = state;
    const stopTokenIds = new Set(request.stopTokenIds);
    if (!request.ignoreEos || request.grammar) for (const id of this.info.eosTokenIds) stopTokenIds.add(id);
    const shown = new Set(request.shownSpecialTokens);
    // A grammar counts every byte, and what follows it has them all.
    const behind = request.grammar ? 'text' : request.continuesPrompt ? request.prompt : [];
    for (let choice = 0; choice < request.n; choice++) {
      const stops = new StopConditions({
        stop: request.stop,
        stopTokenIds,
        maxTokens: request.maxTokens,
        minTokens: request.minTokens,
        constrained: request.grammar !== undefined,
      });
      state.sequences.push(
        new Sequence(state, choice, this.#nextSerial++, stops, this.#parts.tokenizer.stream(shown, behind)),
      );
    }
    const { session } = state;
    if (session) {
      // It keeps them as long as its tokens, which have theirs.
      session.addImages(state.images);
      state.images = [];
    }
    this.#loop.add(state);
  }

  endSession(session: string): void {
    this.#sessions.end(session);
  }

  cancel(id: string): void {
    this.#sessions.cancelWaiting(id);
    const state = this.#requests.get(id);
    if (!state) return;
    state.ended = true;
    this.#loop.end(state);
    this.#forget(state);
  }

  pause(id: string): void {
    const state = this.#requests.get(id);
    if (state) state.paused = true;
  }

  resume(id: string): void {
    const state = this.#requests.get(id);
    if (!state) return;
    state.paused = false;
    this.#loop.wake();
  }

  stats(): Promise<EngineStats> {
    const stats = this.#loop.stats();
    const images = this.#parts.images?.stats();
    return Promise.resolve({ ...stats, waiting: this.#waiting, ...(images && { images }) });
  }

  explain(): Promise<SchedulerReport> {
    return Promise.resolve(this.#loop.explain());
  }

  setPolicy(change: PolicyChange): Promise<void> {
    this.#loop.use(this.#parts.reopenScheduling(change));
    return Promise.resolve();
  }

  async drain(graceMs: number): Promise<void> {
    this.#draining = true;
    if (this.#requests.size === 0) return;
    let timer: NodeJS.Timeout | undefined;
    const idle = new Promise<void>((resolve) => {
      this.#onIdle = resolve;
    });
    const grace = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, graceMs);
    });
    await Promise.race([idle, grace]);
    clearTimeout(timer);
    this.#failAll(new EngineError('shutting_down', 'The server is shutting down.'));
  }

  async close(): Promise<void> {
    this.#draining = true;
    this.#deadlines.close();
    this.#failAll(new EngineError('shutting_down', 'The server is shutting down.'));
    await this.#loop.close();
    await this.#parts.images?.close();
    await this.#parts.device.close();
  }

  /** Nothing that was on the device can be finished. */
  #lose({ message }: DeviceLostError): void {
    const { info, reopenSeconds } = this.#parts;
    this.#loss = new EngineError(
      'device_unavailable',
      `The device was lost (${info.device.name}: ${message}).`,
      { retryAfterSeconds: reopenSeconds },
    );
    this.#failAll(this.#loss);
    this.#onLost(this.#loss);
  }

  #refusal(request: GenerateRequest, session: Session | undefined): EngineError | undefined {
    if (this.#loss) return this.#loss;
    if (this.#draining) {
      return new EngineError('shutting_down', 'The server is shutting down.', { retryAfterSeconds: 5 });
    }
    if (this.#requests.has(request.id)) {
      return new EngineError('invalid_request', `A request with the id ${request.id} is running already.`);
    }
    // What came before in its session was looked at then, and may be a million tokens.
    const fault = requestFault(request, this.info, session?.tokens.length ?? 0);
    if (fault) return fault;
    if (this.#waiting >= this.#parts.maxQueue) {
      return new EngineError('queue_full', 'Too many requests are waiting.', {
        retryAfterSeconds: this.#loop.retryAfterSeconds(),
      });
    }
    return undefined;
  }

  /** Requests of which nothing has run yet. */
  get #waiting(): number {
    let encoding = 0;
    for (const { sequences } of this.#requests.values()) if (sequences.length === 0) encoding++;
    return this.#loop.waiting + encoding;
  }

  /** Has their encoding begin. Comes last of what may refuse the request, which has them from now on. */
  #useImages(state: RequestState, images: readonly PromptImage[] | undefined): EngineError | undefined {
    if (!images) return undefined;
    try {
      if (!this.#parts.images) throw new EngineError('invalid_request', 'The model reads no images.');
      const { prompt } = state.request;
      const used = this.#parts.images.use(images, prompt.length, state.session !== undefined);
      state.images = used.map((image, index) => ({ image, positions: images[index]!.positions }));
      return undefined;
    } catch (error) {
      if (state.request.grammar) this.#grammars.release(state.request.grammar);
      return error as EngineError;
    }
  }

  #openGrammar(state: RequestState): EngineError | undefined {
    const { grammar } = state.request;
    try {
      if (grammar) state.grammar = this.#grammars.use(grammar);
      return undefined;
    } catch (error) {
      return new EngineError(
        'invalid_request',
        `The grammar cannot be followed: ${(error as Error).message}.`,
      );
    }
  }

  #afterEvents(state: RequestState): void {
    if (state.ended) this.#forget(state);
  }

  #forget({ request, images, session }: RequestState): void {
    if (!this.#requests.delete(request.id)) return;
    this.#parts.images?.release(images, session !== undefined);
    this.#leave(session);
    if (request.grammar) this.#grammars.release(request.grammar);
    this.#checkIdle();
  }

  /** A request of the session is over. */
  #leave(session: Session | undefined): void {
    if (!session) return;
    session.giveUp();
    this.#sessions.checkUnused(session);
  }

  #checkIdle(): void {
    if (this.#requests.size === 0) this.#onIdle?.();
  }

  #failAll(error: EngineError): void {
    this.#sessions.failWaiting(error);
    for (const state of [...this.#requests.values()]) this.#fail(state, error);
  }

  #fail(state: RequestState, error: EngineError): void {
    state.fail(error);
    this.#loop.end(state);
    state.flush();
    this.#forget(state);
  }
}
