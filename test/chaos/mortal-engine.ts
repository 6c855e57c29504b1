import type { Settings } from '../../config/schema.js';
import { engineOn } from '../../engine/client.js';
import { startProcess, startThread } from '../../engine/engine-host.js';
import { describeModel } from '../../engine/model/description.js';
import type { TestServer } from '../support/server.js';

/** An engine in a thread, as on a processor, or in a process, as on a GPU, and how to kill it. */
export async function openMortal(
  kind: 'thread' | 'process',
  { model, engine }: Pick<Settings, 'model' | 'engine'>,
) {
  const description = await describeModel(model.path);
  const data = { model, engine, description, reportsDecisions: false };
  if (kind === 'thread') {
    const host = startThread(data);
    return { engine: await engineOn(host), kill: () => void host.end() };
  }
  const host = startProcess(data);
  return { engine: await engineOn(host), kill: () => process.kill(host.pid!, 'SIGKILL') };
}

/** Has the server use one engine, and when that is dead the other one, as soon as `reopen` is called. */
export async function serveUntilDeath(
  server: TestServer,
  { mortal, next }: Record<'mortal' | 'next', Awaited<ReturnType<typeof openMortal>>>,
): Promise<{ reopen: () => void }> {
  let reopen!: () => void;
  const reopened = new Promise<void>((resolve) => {
    reopen = resolve;
  });
  await server.serve(mortal.engine, async () => {
    await reopened;
    return next.engine;
  });
  return { reopen };
}
