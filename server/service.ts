import type { Logger } from 'pino';
import type { Settings } from '../config/schema.js';
import type { Engine, PolicyChange } from '../engine/index.js';
import type { ApiKey } from './keys/api-key.js';
import type { KeyRing } from './keys/key-ring.js';
import { RecentRequests } from './live/recent-requests.js';
import type { Metrics } from './metrics.js';
import { ApiError } from './openai/errors.js';
import type { Preparer } from './prepare/preparer.js';
import type { ResponseStore } from './responses/store.js';

/** A loaded model: its engine, and what turns bodies into requests for it. */
export interface LoadedModel {
  readonly engine: Engine;
  readonly preparer: Preparer;
  readonly loadedAt: Date;
  /** Its engine took the place of one that was lost. */
  readonly isReopened?: boolean;
}

/** What the routes share: it listens before the model is there, and outlives the willingness to serve it. */
export class Service {
  #model: LoadedModel | undefined;
  #failure: { message: string; retryAfterSeconds: number } | undefined;
  #policy: PolicyChange = {};
  #onDrain: () => void = () => undefined;
  /** Resolves when someone asks that the server drain and end. */
  readonly drainAsked = new Promise<void>((resolve) => {
    this.#onDrain = resolve;
  });
  draining = false;
  readonly #began = performance.now();
  /** Milliseconds since the server started. */
  readonly uptimeMs = (): number => performance.now() - this.#began;
  /** For the dashboard. */
  readonly recent = new RecentRequests(this.uptimeMs);

  constructor(
    readonly settings: Settings,
    readonly metrics: Metrics,
    readonly logger: Logger,
    readonly keys: KeyRing,
    /** Absent with `--no-store`. */
    readonly store: ResponseStore | undefined,
  ) {}

  get isReady(): boolean {
    return this.#model !== undefined && this.#failure === undefined && !this.draining;
  }

  /** New work is refused from now on, and whoever runs the server is told to end it. */
  askToDrain(): void {
    this.draining = true;
    this.#onDrain();
  }

  /** Shares the device in another way; an engine that is opened anew does the same. Throws as `model` does. */
  async changePolicy(change: PolicyChange): Promise<void> {
    const { engine } = this.model;
    this.#policy = { ...this.#policy, ...change };
    await engine.setPolicy(this.#policy);
  }

  /** Gives an engine that takes another's place the policy that was asked for. */
  async keepPolicy(engine: Engine): Promise<void> {
    if (Object.keys(this.#policy).length > 0) await engine.setPolicy(this.#policy);
  }

  /** From now on this is what serves, whatever failed before. */
  setModel(model: LoadedModel): void {
    this.#model = model;
    this.#failure = undefined;
  }

  /** The engine is gone; what comes until there is another one is answered 503. */
  setFailure(message: string, retryAfterSeconds: number): void {
    this.#failure = { message, retryAfterSeconds };
  }

  /** Counts a request of a key. Throws `ApiError` 429 where one of its limits is reached. */
  admit(key: ApiKey): void {
    try {
      key.admit();
    } catch (error) {
      this.metrics.rateLimited.inc({ code: (error as ApiError).details.code! });
      throw error;
    }
  }

  /** The model, whether or not new work is welcome. Undefined while it loads. */
  get loaded(): LoadedModel | undefined {
    return this.#model;
  }

  /** The model, for new work. Throws `ApiError` 503 while it loads or the server drains. */
  get model(): LoadedModel {
    const reason = this.unavailable;
    if (reason) throw reason;
    return this.#model!;
  }

  /** Why nothing is served now; undefined where it is. */
  get unavailable(): ApiError | undefined {
    if (this.#failure) {
      const { message, retryAfterSeconds } = this.#failure;
      return unavailable(message, 'engine_failed', retryAfterSeconds);
    }
    if (this.draining) return unavailable('The server is shutting down.', 'shutting_down');
    if (!this.#model) return unavailable('The model is still being loaded.', 'model_loading');
    return undefined;
  }
}

function unavailable(message: string, code: string, retryAfterSeconds = 5): ApiError {
  return new ApiError(503, 'service_unavailable_error', message, { code, retryAfterSeconds });
}
