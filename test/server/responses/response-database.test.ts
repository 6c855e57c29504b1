import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import sqlite from 'node-sqlite3-wasm';
import { afterEach, describe, expect, it } from 'vitest';
import { ResponseDatabase } from '../../../server/responses/response-database.js';
import type { StoredResponse } from '../../../server/responses/store.js';

const second = 1000;
const limitBytes = 10_000;

const opened: ResponseDatabase[] = [];
const folders: string[] = [];

afterEach(() => {
  for (const database of opened.splice(0)) database.close();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

/** A database whose clock is told. */
function open(over: { file?: string; limitBytes?: number; ttlSeconds?: number } = {}) {
  const clock = { now: 1_000_000 };
  const source = { file: undefined, limitBytes, ttlSeconds: 60, ...over };
  const database = new ResponseDatabase(source, () => clock.now);
  opened.push(database);
  return { clock, database };
}

function newFile(): string {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'tandem-store-'));
  folders.push(folder);
  return path.join(folder, 'sub', 'responses.db');
}

const item = (id: string, text = id) => ({ id, text });

function response(
  id: string,
  previousId: string | null = null,
  over: Partial<StoredResponse> = {},
): StoredResponse {
  const [input, output] = [item(`in-${id}`), item(`out-${id}`)];
  return {
    id,
    owner: 'anna',
    previousId,
    resource: JSON.stringify({ id, output: [output] }),
    input: JSON.stringify([input]),
    conversation: null,
    itemIds: [input.id, output.id],
    ...over,
  };
}

const idsIn = (json: string | null) => (JSON.parse(json!) as { id: string }[]).map(({ id }) => id);

function conversationBefore(database: ResponseDatabase, previousResponseId: string): string[] {
  return idsIn(database.find('anna', { previousResponseId, itemIds: [] }, limitBytes).conversation);
}

describe('response database', () => {
  it('follows a conversation to its beginning', () => {
    const { database } = open();
    database.put(response('a'));
    database.put(response('b', 'a'));
    database.put(response('c', 'b'));
    expect(conversationBefore(database, 'b')).toEqual(['in-a', 'out-a', 'in-b', 'out-b']);
    expect(idsIn(database.items('anna', 'c'))).toEqual(['in-a', 'out-a', 'in-b', 'out-b', 'in-c']);
  });

  it('begins where a response brings its own conversation', () => {
    const { database } = open();
    database.put(response('b', 'unkept', { conversation: JSON.stringify([item('x'), item('y')]) }));
    database.put(response('c', 'b'));
    expect(conversationBefore(database, 'c')).toEqual(['x', 'y', 'in-b', 'out-b', 'in-c', 'out-c']);
    expect(idsIn(database.items('anna', 'b'))).toEqual(['x', 'y', 'in-b']);
  });

  it('names what is gone, and never continues a conversation with a gap', () => {
    const { database } = open();
    database.put(response('a'));
    database.put(response('b', 'a'));
    expect(database.delete('anna', 'a')).toBe(true);
    expect(database.delete('anna', 'a')).toBe(false);
    expect(() => conversationBefore(database, 'b')).toThrow("'a' is not known");
    expect(idsIn(database.items('anna', 'b'))).toEqual(['in-b']);
  });

  it('finds items by id, in the input and the output', () => {
    const { database } = open();
    database.put(response('a'));
    const needs = { previousResponseId: null, itemIds: ['in-a', 'out-a'] };
    const { items, conversation } = database.find('anna', needs, limitBytes);
    expect(conversation).toBe('[]');
    expect(Object.values(items).map((json) => JSON.parse(json))).toEqual([item('in-a'), item('out-a')]);
    database.delete('anna', 'a');
    expect(() => database.find('anna', needs, limitBytes)).toThrow("'in-a' is not known");
  });

  it('forgets after the time to live, counted from the last continuation', () => {
    const { clock, database } = open({ ttlSeconds: 60 });
    database.put(response('a'));
    database.put(response('alone'));
    clock.now += 40 * second;
    database.put(response('b', 'a'));
    clock.now += 40 * second;
    expect(database.get('anna', 'alone')).toBeNull();
    expect(conversationBefore(database, 'b')).toHaveLength(4);
    clock.now += 40 * second;
    expect(database.get('anna', 'b')).toBeNull();
    expect(database.get('anna', 'a')).toBeNull();
  });

  it('makes room by what has been left alone for longest', () => {
    const { clock, database } = open();
    const large = (id: string, previousId: string | null = null) =>
      response(id, previousId, { input: JSON.stringify([item(`in-${id}`, 'x'.repeat(3000))]) });
    for (const id of ['a', 'b', 'c']) {
      database.put(large(id));
      clock.now += second;
    }
    database.put(large('d', 'a'));
    expect(['a', 'b', 'c', 'd'].filter((id) => database.get('anna', id) !== null)).toEqual(['a', 'c', 'd']);
    expect(() => database.put(response('e', null, { input: `["${'x'.repeat(limitBytes)}"]` }))).toThrow(
      '--store-limit',
    );
    expect(() => database.find('anna', { previousResponseId: 'd', itemIds: [] }, 4000)).toThrow(
      '--body-limit',
    );
  });

  it('makes no room by the response that is kept, where it goes on from all that there is', () => {
    const clock = { now: 1_000_000 };
    // Time passes while it is written.
    const database = new ResponseDatabase({ file: undefined, limitBytes, ttlSeconds: 60 }, () => clock.now++);
    opened.push(database);
    let previousId: string | null = null;
    for (const id of ['a', 'b', 'c', 'd', 'e']) {
      database.put(response(id, previousId, { input: JSON.stringify([item(`in-${id}`, 'x'.repeat(3000))]) }));
      expect(database.get('anna', id)).not.toBeNull();
      previousId = id;
    }
  });

  it('shows nobody what is of another, and lets nobody go on from it', () => {
    const { database } = open();
    database.put(response('a'));
    database.put(response('b', 'a', { owner: 'ben' }));
    expect(database.get('ben', 'a')).toBeNull();
    expect(database.items('ben', 'a')).toBeNull();
    expect(database.delete('ben', 'a')).toBe(false);
    expect(() => database.find('ben', { previousResponseId: 'a', itemIds: [] }, limitBytes)).toThrow("'a'");
    expect(() => database.find('ben', { previousResponseId: null, itemIds: ['in-a'] }, limitBytes)).toThrow(
      "'in-a' is not known",
    );
    // However it came about that one goes on from the other.
    expect(idsIn(database.items('ben', 'b'))).toEqual(['in-b']);
    expect(database.get('anna', 'a')).not.toBeNull();
  });

  it('makes room at the cost of whoever keeps most', () => {
    const { clock, database } = open();
    const large = (id: string, owner: string) =>
      response(id, null, { owner, input: JSON.stringify([item(`in-${id}`, 'x'.repeat(2000))]) });
    database.put(large('a', 'anna'));
    for (const id of ['b', 'c', 'd', 'e', 'f']) {
      clock.now += second;
      database.put(large(id, 'ben'));
    }
    expect(database.get('anna', 'a')).not.toBeNull();
    expect(['b', 'c', 'd', 'e', 'f'].filter((id) => database.get('ben', id))).toEqual(['d', 'e', 'f']);
  });

  it("takes over a file from before there were owners: what is in it is nobody's", () => {
    const file = newFile();
    mkdirSync(path.dirname(file));
    const old = new sqlite.Database(file);
    old.exec(`
      CREATE TABLE responses (
        id TEXT PRIMARY KEY, previous_id TEXT, used_at INTEGER NOT NULL, bytes INTEGER NOT NULL,
        resource TEXT NOT NULL, input TEXT NOT NULL, conversation TEXT
      );
      CREATE INDEX responses_by_use ON responses (used_at);
      CREATE TABLE items (
        id TEXT NOT NULL, response_id TEXT NOT NULL REFERENCES responses (id) ON DELETE CASCADE,
        PRIMARY KEY (id, response_id)
      ) WITHOUT ROWID;
      CREATE INDEX items_by_response ON items (response_id);
      INSERT INTO responses VALUES ('a', NULL, 1000000, 30, '{"id":"a","output":[]}', '[{"id":"in-a"}]', NULL);
      INSERT INTO items VALUES ('in-a', 'a');
    `);
    old.close();
    const { database } = open({ file });
    expect(database.get('', 'a')).toBe('{"id":"a","output":[]}');
    expect(database.get('anna', 'a')).toBeNull();
    const { items } = database.find('', { previousResponseId: 'a', itemIds: ['in-a'] }, limitBytes);
    expect(items['in-a']).toBe('{"id":"in-a"}');
    database.put(response('b', 'a', { owner: '' }));
    const again = open({ file });
    expect(idsIn(again.database.items('', 'b'))).toEqual(['in-a', 'in-b']);
  });

  it('refuses the file of a newer version', () => {
    const file = newFile();
    opened.splice(opened.indexOf(open({ file }).database), 1)[0]!.close();
    const newer = new sqlite.Database(file);
    newer.exec('PRAGMA user_version = 99');
    newer.close();
    expect(() => open({ file })).toThrow('a newer version of Tandem has written it');
  });

  it('keeps its file, with nothing left in it of what was deleted', () => {
    const file = newFile();
    const first = new ResponseDatabase({ file, limitBytes, ttlSeconds: 60 }, () => 0);
    first.put(response('a', null, { input: '[{"id":"in-a","text":"a secret word"}]' }));
    first.put(response('b', 'a'));
    first.close();
    expect(readFileSync(file).includes('a secret word')).toBe(true);
    const modes = readdirSync(path.dirname(file)).map(
      (name) => statSync(path.join(file, '..', name)).mode & 0o777,
    );
    expect(modes).toEqual([0o600, 0o600]);
    const again = new ResponseDatabase({ file, limitBytes, ttlSeconds: 60 }, () => 0);
    opened.push(again);
    expect(conversationBefore(again, 'b')).toHaveLength(4);
    again.delete('anna', 'a');
    expect(readFileSync(file).includes('a secret word')).toBe(false);
  });

  it('outlives a process that was killed while it wrote', () => {
    const file = newFile();
    mkdirSync(`${file}.lock`, { recursive: true });
    utimesSync(`${file}.lock`, 0, 0);
    const { database } = open({ file });
    database.put(response('a'));
    expect(database.get('anna', 'a')).not.toBeNull();
  });

  it('refuses a file that is none of its own', () => {
    expect(() => open({ file: '/dev/null/responses.db' })).toThrow('--store-file /dev/null/responses.db');
  });
});
