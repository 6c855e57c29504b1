import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { Settings } from '../../../config/schema.js';
import { ResponseStore, type StoredResponse } from '../../../server/responses/store.js';

const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

async function open(server: Partial<Settings['server']> = {}): Promise<ResponseStore> {
  const store = await ResponseStore.open(Settings.parse({ model: { path: '.' }, server }).server);
  return store!;
}

const response: StoredResponse = {
  id: 'resp_1',
  owner: 'anna',
  previousId: null,
  resource: '{"id":"resp_1"}',
  input: '[]',
  conversation: null,
  itemIds: [],
};

describe('the store of responses, when it is closed', () => {
  it('has what was put last in its file', async () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'tandem-store-'));
    folders.push(folder);
    const storeFile = path.join(folder, 'responses.db');
    const store = await open({ storeFile });
    const put = store.put(response);
    await store.close();
    await put;
    const next = await open({ storeFile });
    expect(await next.get('anna', 'resp_1')).toBe(response.resource);
    await next.close();
  });

  it('does not wait for a thread that keeps in memory what is going away with it', async () => {
    const store = await open();
    const put = store.put(response);
    const asked = store.get('anna', 'resp_1');
    await Promise.all([
      expect(asked).rejects.toThrow('a thread of the server was ended'),
      // Nothing was lost by it.
      expect(put).resolves.toBeUndefined(),
      store.close(),
    ]);
  });
});
