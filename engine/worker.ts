/** The engine's thread: an engine, and the messages of `messages.ts` on both sides. */
import { parentPort, workerData } from 'node:worker_threads';
import { EngineError } from './errors.js';
import { EventBatcher } from './event-batch.js';
import type { Command, Report, WorkerData } from './messages.js';
import { openLocalEngine } from './open-local-engine.js';

const port = parentPort!;
const report = (message: Report): void => port.postMessage(message);

try {
  const { reportsDecisions, ...settings } = workerData as WorkerData;
  const engine = await openLocalEngine(settings, {
    onProgress: (doneBytes, totalBytes) => report({ type: 'progress', doneBytes, totalBytes }),
    ...(reportsDecisions && { onDecision: (decision) => report({ type: 'decision', decision }) }),
  });
  const batcher = new EventBatcher();
  let scheduled = false;
  const send = (): void => {
    scheduled = false;
    if (!batcher.isEmpty) report({ type: 'events', ...batcher.take() });
  };

  port.on('message', (command: Command) => {
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
      case 'stats':
        void engine.stats().then((value) => report({ type: 'answer', call: command.call, value }));
        break;
      case 'explain':
        void engine.explain().then((value) => report({ type: 'answer', call: command.call, value }));
        break;
      case 'drain':
        void engine.drain(command.graceMs).then(() => {
          send();
          report({ type: 'done', call: command.call });
        });
        break;
      case 'close':
        void engine.close().then(() => {
          send();
          report({ type: 'done', call: command.call });
          port.close();
        });
        break;
    }
  });
  report({ type: 'ready', info: engine.info });
} catch (error) {
  const code = error instanceof EngineError ? error.code : 'engine_failed';
  report({ type: 'failed', error: { code, message: (error as Error).message } });
}
