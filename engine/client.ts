import path from 'node:path';
import { type EngineHost, startHost } from './engine-host.js';
import { EngineError } from './errors.js';
import { unpackBatch } from './event-batch.js';
import { type Command, engineError, type Report } from './messages.js';
import { describeModel } from './model/description.js';
import type { DeviceSettings } from './open-device.js';
import type { EngineListeners } from './open-local-engine.js';
import type {
  Engine,
  EngineInfo,
  EngineStats,
  GenerateRequest,
  PolicyChange,
  SchedulerReport,
  TokenEvent,
} from './types.js';

type Answer = EngineStats | SchedulerReport | undefined;
type Listener = (events: readonly TokenEvent[]) => void;

/** Starts the engine beside this thread and loads the model there. Rejects with `EngineError` if it cannot be loaded. */
export async function openEngine(
  { model, engine }: DeviceSettings,
  listeners: EngineListeners = {},
): Promise<Engine> {
  const reportsDecisions = listeners.onDecision !== undefined;
  const description = await describeModel(path.resolve(model.path));
  return engineOn(startHost({ model, engine, description, reportsDecisions }), listeners);
}

/** The engine of a host that has been started. */
export function engineOn(
  host: EngineHost,
  { onProgress, onDecision }: EngineListeners = {},
): Promise<Engine> {
  return new Promise((resolve, reject) => {
    let client: EngineClient | undefined;
    host.onReport((message) => {
      if (client) client.onReport(message);
      else if (message.type === 'progress') onProgress?.(message.doneBytes, message.totalBytes);
      else if (message.type === 'failed') {
        void host.end();
        reject(engineError(message.error));
      } else if (message.type === 'ready') {
        client = new EngineClient(host, message.info, onDecision);
        resolve(client);
      }
    });
    host.onEnd((reason) => {
      const error = new EngineError('engine_failed', reason);
      client?.onLoss(error);
      reject(error);
    });
  });
}

/** The engine as the thread that asks sees it. */
class EngineClient implements Engine {
  readonly lost: Promise<EngineError>;
  #onLost!: (error: EngineError) => void;
  #isClosing = false;
  #closed: Promise<void> | undefined;
  #nextNumber = 0;
  #nextCall = 0;
  readonly #listeners = new Map<number, { id: string; onEvents: Listener }>();
  readonly #numbers = new Map<string, number>();
  readonly #calls = new Map<number, { resolve: (value: Answer) => void; reject: (e: Error) => void }>();
  #failure: EngineError | undefined;

  constructor(
    private readonly host: EngineHost,
    readonly info: EngineInfo,
    private readonly onDecision: EngineListeners['onDecision'],
  ) {
    this.lost = new Promise((resolve) => {
      this.#onLost = resolve;
    });
  }

  submit(request: GenerateRequest, onEvents: Listener): void {
    if (this.#failure) {
      const error = this.#failure;
      queueMicrotask(() => onEvents([{ type: 'error', error }]));
      return;
    }
    const number = this.#nextNumber++;
    this.#listeners.set(number, { id: request.id, onEvents });
    this.#numbers.set(request.id, number);
    this.#post({ type: 'submit', number, request });
  }

  cancel(id: string): void {
    const number = this.#numbers.get(id);
    if (number === undefined) return;
    this.#forget(number);
    this.#post({ type: 'cancel', id });
  }

  pause(id: string): void {
    this.#post({ type: 'pause', id });
  }

  resume(id: string): void {
    this.#post({ type: 'resume', id });
  }

  endSession(session: string): void {
    this.#post({ type: 'endSession', id: session });
  }

  async stats(): Promise<EngineStats> {
    return (await this.#call((call) => ({ type: 'stats', call }))) as EngineStats;
  }

  async explain(): Promise<SchedulerReport> {
    return (await this.#call((call) => ({ type: 'explain', call }))) as SchedulerReport;
  }

  async setPolicy(change: PolicyChange): Promise<void> {
    await this.#call((call) => ({ type: 'policy', call, change }));
  }

  async drain(graceMs: number): Promise<void> {
    await this.#call((call) => ({ type: 'drain', call, graceMs }));
  }

  /** However often it is called, it closes once. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    if (!this.#failure) {
      this.#isClosing = true;
      await this.#call((call) => ({ type: 'close', call }));
    }
    await this.host.end();
  }

  #post(command: Command): void {
    if (!this.#failure) this.host.post(command);
  }

  #call(command: (call: number) => Command): Promise<Answer> {
    if (this.#failure) return Promise.reject(this.#failure);
    const call = this.#nextCall++;
    return new Promise((resolve, reject) => {
      this.#calls.set(call, { resolve, reject });
      this.#post(command(call));
    });
  }

  onReport(message: Report): void {
    if (message.type === 'events') {
      unpackBatch(message, (number, events) => {
        const listener = this.#listeners.get(number);
        if (!listener) return; // cancelled while the events were on their way
        const last = events.at(-1)!.type;
        if (last === 'done' || last === 'error') this.#forget(number);
        listener.onEvents(events);
      });
    } else if (message.type === 'decision') {
      this.onDecision?.(message.decision);
    } else if (message.type === 'answer' || message.type === 'done') {
      this.#calls.get(message.call)?.resolve(message.type === 'answer' ? message.value : undefined);
      this.#calls.delete(message.call);
    } else if (message.type === 'lost') {
      this.onLoss(engineError(message.error));
      void this.host.end();
    }
  }

  #forget(number: number): void {
    const listener = this.#listeners.get(number);
    if (listener && this.#numbers.get(listener.id) === number) this.#numbers.delete(listener.id);
    this.#listeners.delete(number);
  }

  /** Whoever waits is told; nothing hangs. */
  onLoss(error: EngineError): void {
    if (this.#failure) return;
    this.#failure = error;
    for (const { onEvents } of this.#listeners.values()) onEvents([{ type: 'error', error }]);
    for (const { reject } of this.#calls.values()) reject(error);
    this.#listeners.clear();
    this.#numbers.clear();
    this.#calls.clear();
    if (!this.#isClosing) this.#onLost(error);
  }
}
