/** The engine's thread or process: an engine, and the messages of `messages.ts` on both sides. */
import { once } from 'node:events';
import { parentPort, workerData } from 'node:worker_threads';
import { EngineError } from './errors.js';
import { EventBatcher } from './event-batch.js';
import { type Command, type Report, type WorkerData, wireError } from './messages.js';
import { openLocalEngine } from './open-local-engine.js';

/** The way to whoever started it. */
interface Port {
  readonly data: WorkerData;
  report(message: Report): void;
  onCommand(listener: (command: Command) => void): void;
  close(): void;
}

const port = parentPort ? threadPort(parentPort) : await processPort();

function threadPort(parent: NonNullable<typeof parentPort>): Port {
  return {
    data: workerData as WorkerData,
    report: (message) => parent.postMessage(message),
    onCommand: (listener) => {
      parent.on('message', listener);
    },
    close: () => parent.close(),
  };
}

async function processPort(): Promise<Port> {
  // Ctrl-C reaches all processes of a terminal; the one that serves says when this one shall end.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {});
  // Nobody is left to answer to.
  process.on('disconnect', () => process.exit());
  const [data] = (await once(process, 'message')) as [WorkerData];
  return {
    data,
    report: (message) => {
      if (process.connected) process.send!(message);
    },
    onCommand: (listener) => {
      process.on('message', (command) => listener(command as Command));
    },
    close: () => process.disconnect(),
  };
}

try {
  const { reportsDecisions, description, ...settings } = port.data;
  const engine = await openLocalEngine(settings, description, {
    onProgress: (doneBytes, totalBytes) => port.report({ type: 'progress', doneBytes, totalBytes }),
    ...(reportsDecisions && { onDecision: (decision) => port.report({ type: 'decision', decision }) }),
  });
  const batcher = new EventBatcher();
  let scheduled = false;
  const send = (): void => {
    scheduled = false;
    if (!batcher.isEmpty) port.report({ type: 'events', ...batcher.take() });
  };

  port.onCommand((command) => {
    switch (command.type) {
      case 'submit':
        engine.submit(command.request, (events) => {
          for (const event of events) batcher.add(command.number, event);
          // One message for all requests of a step: their listeners are called in one go.
          if (!scheduled) queueMicrotask(send);
          scheduled = true;
        });
        break;
      case 'cancel':
        engine.cancel(command.id);
        break;
      case 'pause':
        engine.pause(command.id);
        break;
      case 'resume':
        engine.resume(command.id);
        break;
      case 'endSession':
        engine.endSession(command.id);
        break;
      case 'stats':
        void engine.stats().then((value) => port.report({ type: 'answer', call: command.call, value }));
        break;
      case 'explain':
        void engine.explain().then((value) => port.report({ type: 'answer', call: command.call, value }));
        break;
      case 'policy':
        void engine.setPolicy(command.change).then(() => port.report({ type: 'done', call: command.call }));
        break;
      case 'drain':
        void engine.drain(command.graceMs).then(() => {
          send();
          port.report({ type: 'done', call: command.call });
        });
        break;
      case 'close':
        void engine.close().then(() => {
          send();
          port.report({ type: 'done', call: command.call });
          port.close();
        });
        break;
    }
  });
  void engine.lost.then((error) => {
    send();
    port.report({ type: 'lost', error: wireError(error) });
  });
  port.report({ type: 'ready', info: engine.info });
} catch (error) {
  const known =
    error instanceof EngineError ? error : new EngineError('engine_failed', (error as Error).message);
  port.report({ type: 'failed', error: wireError(known) });
}
