import { type MessagePort, type ResourceLimits, Worker } from 'node:worker_threads';
import { ApiError, clientLeft, toApiError } from './openai/errors.js';

/** What each message has besides. */
interface Call {
  readonly call: number;
  /** 1 when nobody waits for the answer any more. */
  readonly givenUp?: Int32Array | undefined;
}

type CallReply =
  | { readonly call: number; readonly result: unknown }
  | { readonly call: number; readonly error: Pick<ApiError, 'status' | 'type' | 'message' | 'details'> };

/** Calls into a thread, answered in the order in which they were made. The first call starts it, unless it was warmed. */
export class WorkerCalls<Message extends object> {
  #nextCall = 0;
  readonly #calls = new Map<number, { resolve: (result: never) => void; reject: (error: Error) => void }>();
  #worker: Worker | undefined;

  constructor(
    private readonly script: URL,
    private readonly data: unknown,
    private readonly resourceLimits: ResourceLimits = {},
  ) {}

  warm(): void {
    this.#worker ??= this.#start();
  }

  get isRunning(): boolean {
    return this.#worker !== undefined;
  }

  /**
   * Rejects with the `ApiError` that the thread answered, or with what ended the thread. A call that nobody waits for when its
   * turn comes is not begun.
   */
  call<Result>(message: Message, waitedFor?: AbortSignal): Promise<Result> {
    this.warm();
    const call = this.#nextCall++;
    const givenUp = waitedFor && flagOf(waitedFor);
    return new Promise((resolve, reject) => {
      this.#calls.set(call, { resolve, reject });
      this.#worker!.postMessage({ ...message, call, givenUp });
    });
  }

  /** Ends the thread, and rejects what it was to answer. A later call starts it anew. */
  async close(): Promise<void> {
    const worker = this.#worker;
    if (!worker) return;
    this.#lose(worker, new Error('a thread of the server was ended'));
    await worker.terminate();
  }

  #start(): Worker {
    const worker = new Worker(this.script, { workerData: this.data, resourceLimits: this.resourceLimits });
    worker.unref();
    worker.on('message', (reply: CallReply) => {
      const waiting = this.#calls.get(reply.call);
      this.#calls.delete(reply.call);
      if ('result' in reply) waiting?.resolve(reply.result as never);
      else {
        const { status, type, message, details } = reply.error;
        waiting?.reject(new ApiError(status, type, message, details));
      }
    });
    worker.on('error', (error) => this.#lose(worker, error));
    worker.on('exit', () => this.#lose(worker, new Error('a thread of the server has ended')));
    return worker;
  }

  /** What kills the thread costs the calls that were in it, and the next one starts anew. */
  #lose(worker: Worker, error: Error): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    for (const { reject } of this.#calls.values()) reject(error);
    this.#calls.clear();
  }
}

/** The thread is busy until the turn of a call comes, and sees then what is in memory that it shares. */
function flagOf(waitedFor: AbortSignal): Int32Array {
  const flag = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  const raise = (): void => {
    Atomics.store(flag, 0, 1);
  };
  if (waitedFor.aborted) raise();
  waitedFor.addEventListener('abort', raise);
  return flag;
}

/**
 * In the thread: answers each call with what `handle` returns or resolves to, or with what it throws, one after another.
 * `movesOf` names what of a result is moved to the caller instead of copied.
 */
export function answerCalls<Message extends object, Result = unknown>(
  port: MessagePort,
  handle: (message: Message) => Result | Promise<Result>,
  movesOf: (result: Result) => ArrayBuffer[] = () => [],
): void {
  const answer = async (message: Message & Call): Promise<void> => {
    let reply: CallReply;
    let moves: ArrayBuffer[] = [];
    try {
      if (message.givenUp && Atomics.load(message.givenUp, 0) === 1) throw clientLeft();
      const result = await handle(message);
      reply = { call: message.call, result };
      moves = movesOf(result);
    } catch (error) {
      const { status, type, message: text, details } = toApiError(error);
      reply = { call: message.call, error: { status, type, message: text, details } };
    }
    port.postMessage(reply, moves);
  };
  let last = Promise.resolve();
  port.on('message', (message: Message & Call) => {
    last = last.then(() => answer(message));
  });
}
