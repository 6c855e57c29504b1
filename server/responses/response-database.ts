import { closeSync, mkdirSync, openSync, rmdirSync, statSync } from 'node:fs';
import path from 'node:path';
import sqlite from 'node-sqlite3-wasm';
import { ApiError } from '../openai/errors.js';
import { type FoundItems, joinItems, type ResponseNeeds } from './found-items.js';
import {
  conversationTooLarge,
  itemNotFound,
  previousNotFound,
  type StoredResponse,
  type StoreSource,
} from './store.js';

/*
 * `owner` is the name of the key that a response was made with, and empty where there were no keys. `used_at` is when a response was made, or last continued: a response lives as long as what continues it, and those that
 * have been left alone for longest go first. `bytes` is the text of a row, which is nearly all of its size.
 */
const tables = `
  PRAGMA auto_vacuum = FULL;
  PRAGMA secure_delete = ON;
  PRAGMA synchronous = NORMAL;
  PRAGMA journal_mode = TRUNCATE;
  CREATE TABLE IF NOT EXISTS responses (
    id TEXT PRIMARY KEY,
    previous_id TEXT,
    used_at INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    resource TEXT NOT NULL,
    input TEXT NOT NULL,
    conversation TEXT,
    owner TEXT NOT NULL DEFAULT ''
  );
  CREATE INDEX IF NOT EXISTS responses_by_use ON responses (used_at);
  CREATE INDEX IF NOT EXISTS responses_by_owner ON responses (owner, used_at);
  CREATE TABLE IF NOT EXISTS items (
    id TEXT NOT NULL,
    response_id TEXT NOT NULL REFERENCES responses (id) ON DELETE CASCADE,
    PRIMARY KEY (id, response_id)
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS items_by_response ON items (response_id);
`;

/** As the file says in `user_version`; one from before there were owners says 0, as a new one does. */
const version = 1;

/** What a response continues has been used now. */
const continued = `
  WITH RECURSIVE before (id) AS (
    SELECT ?1
    UNION
    SELECT previous_id FROM responses JOIN before USING (id) WHERE previous_id IS NOT NULL
  )
  UPDATE responses SET used_at = ?2 WHERE id IN before
`;

/** A write takes milliseconds; a lock that is so old was left by a process that was killed. */
const staleLockMs = 60_000;

interface Row {
  readonly id: string;
  readonly previous_id: string | null;
  readonly resource: string;
  readonly input: string;
  readonly conversation: string | null;
}

interface OwnedBytes {
  readonly owner: string;
  readonly bytes: number | bigint;
}

/** The responses that are kept, in SQLite. `now` gives milliseconds. */
export class ResponseDatabase {
  readonly #database: sqlite.Database;
  readonly #limitBytes: number;
  readonly #ttlMs: number;
  /** By owner. */
  #bytes: Map<string, number>;

  /** Throws with the file's name where it cannot be used. */
  constructor(
    { file, limitBytes, ttlSeconds }: StoreSource,
    private readonly now: () => number,
  ) {
    this.#limitBytes = limitBytes;
    this.#ttlMs = ttlSeconds * 1000;
    try {
      if (file !== undefined) prepareFile(file, now());
      this.#database = new sqlite.Database(file ?? ':memory:');
      this.#migrate();
    } catch (error) {
      throw new ApiError(
        500,
        'store_error',
        `--store-file ${file} cannot be used: ${(error as Error).message}`,
      );
    }
    const totals = this.#database.all('SELECT owner, sum(bytes) AS bytes FROM responses GROUP BY owner');
    this.#bytes = new Map(
      (totals as unknown as OwnedBytes[]).map(({ owner, bytes }) => [owner, Number(bytes)]),
    );
    this.deleteExpired();
  }

  put({ id, owner, previousId, resource, input, conversation, itemIds }: StoredResponse): void {
    const bytes = [resource, input, conversation ?? ''].reduce(
      (sum, text) => sum + Buffer.byteLength(text),
      0,
    );
    if (bytes > this.#limitBytes) {
      throw new ApiError(500, 'store_error', `a response of ${bytes} bytes is larger than --store-limit`);
    }
    // What it continues is not used later than it, or it would go first where room is made.
    const now = this.now();
    this.#atOnce(() => {
      this.#database.run('INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?, ?)', [
        id,
        previousId,
        now,
        bytes,
        resource,
        input,
        conversation,
        owner,
      ]);
      for (const item of itemIds) {
        this.#database.run('INSERT OR IGNORE INTO items VALUES (?, ?)', [item, id]);
      }
      this.#count(owner, bytes);
      this.#database.run(continued, [previousId, now]);
      this.deleteExpired();
      this.#makeRoom();
    });
  }

  get(owner: string, id: string): string | null {
    return this.#row(owner, id)?.resource ?? null;
  }

  delete(owner: string, id: string): boolean {
    if (!this.#row(owner, id)) return false;
    this.#deleteWhere('id = ?', id);
    return true;
  }

  items(owner: string, id: string): string | null {
    const row = this.#row(owner, id);
    if (!row) return null;
    const before = row.conversation ?? joinItems(this.#before(owner, row.previous_id).flatMap(turn));
    return joinItems([before, row.input]);
  }

  find(owner: string, { previousResponseId, itemIds }: ResponseNeeds, maxBytes: number): FoundItems {
    const items = Object.fromEntries(itemIds.map((id) => [id, this.#item(owner, id)]));
    const rows = this.#before(owner, previousResponseId, (gone) => previousNotFound(gone));
    const conversation = joinItems(rows.flatMap(turn));
    const bytes = conversation.length + Object.values(items).reduce((sum, item) => sum + item.length, 0);
    if (bytes > maxBytes) throw conversationTooLarge(maxBytes);
    return { conversation, items, bytes };
  }

  deleteExpired(): void {
    this.#deleteWhere('used_at <= ?', this.now() - this.#ttlMs);
  }

  close(): void {
    this.#database.close();
  }

  /** Makes the tables, or what an older version made of them. */
  #migrate(): void {
    const { user_version: found } = this.#database.get('PRAGMA user_version') as { user_version: number };
    if (found > version)
      throw new Error(`a newer version of Tandem has written it (${found}, not ${version})`);
    const columns = this.#database.all("SELECT name FROM pragma_table_info('responses')");
    const names = columns.map((column) => (column as { name: string }).name);
    if (names.length > 0 && !names.includes('owner')) {
      // Whose they are was not written down, so they are nobody's where there are keys.
      this.#database.exec("ALTER TABLE responses ADD COLUMN owner TEXT NOT NULL DEFAULT ''");
    }
    this.#database.exec(`${tables} PRAGMA user_version = ${version};`);
  }

  #row(owner: string, id: string | null): Row | undefined {
    if (id === null) return undefined;
    const row = this.#database.get('SELECT * FROM responses WHERE id = ? AND owner = ? AND used_at > ?', [
      id,
      owner,
      this.now() - this.#ttlMs,
    ]);
    return (row ?? undefined) as Row | undefined;
  }

  /** The response `id` and those it continues, oldest first, as far as they are there or until `gone` says otherwise. */
  #before(owner: string, id: string | null, gone?: (id: string) => Error): Row[] {
    const rows: Row[] = [];
    for (let next = id; next !== null; ) {
      const row = this.#row(owner, next);
      if (!row && gone) throw gone(next);
      if (row) rows.push(row);
      next = row?.conversation === null ? row.previous_id : null;
    }
    return rows.reverse();
  }

  #item(owner: string, id: string): string {
    const found = this.#database.get(
      `SELECT response_id FROM items JOIN responses ON responses.id = response_id
       WHERE items.id = ? AND owner = ? ORDER BY used_at DESC`,
      [id, owner],
    ) as { response_id: string } | null;
    const row = this.#row(owner, found?.response_id ?? null);
    if (!row) throw itemNotFound(id);
    const { output } = JSON.parse(row.resource) as { output: { id: string }[] };
    const item = [...output, ...(JSON.parse(row.input) as { id: string }[])].find((one) => one.id === id);
    return JSON.stringify(item);
  }

  /** At the cost of whoever keeps most, so that nobody's responses go because another made many. */
  #makeRoom(): void {
    for (;;) {
      const owners = [...this.#bytes];
      if (owners.reduce((sum, [, bytes]) => sum + bytes, 0) <= this.#limitBytes) return;
      const [largest] = owners.reduce((most, one) => (one[1] > most[1] ? one : most));
      const oldest = this.#database.get(
        'SELECT id FROM responses WHERE owner = ? ORDER BY used_at, rowid LIMIT 1',
        [largest],
      );
      this.#deleteWhere('id = ?', (oldest as { id: string }).id);
    }
  }

  #deleteWhere(condition: string, value: string | number): void {
    const gone = this.#database.all(`DELETE FROM responses WHERE ${condition} RETURNING owner, bytes`, [
      value,
    ]);
    for (const { owner, bytes } of gone as unknown as OwnedBytes[]) this.#count(owner, -Number(bytes));
  }

  #count(owner: string, bytes: number): void {
    const sum = (this.#bytes.get(owner) ?? 0) + bytes;
    if (sum === 0) this.#bytes.delete(owner);
    else this.#bytes.set(owner, sum);
  }

  #atOnce(change: () => void): void {
    const bytes = new Map(this.#bytes);
    this.#database.exec('BEGIN IMMEDIATE');
    try {
      change();
      this.#database.exec('COMMIT');
    } catch (error) {
      this.#bytes = bytes;
      if (this.#database.inTransaction) this.#database.exec('ROLLBACK');
      throw error;
    }
  }
}

/** What a response adds to a conversation: its input, then its output. */
function turn(row: Row): string[] {
  const { output } = JSON.parse(row.resource) as { output: unknown };
  return [row.conversation ?? '[]', row.input, JSON.stringify(output)];
}

/**
 * Makes the files, which hold what people said, for their owner alone; and removes the lock of a process that was killed
 * while it wrote.
 */
function prepareFile(file: string, now: number): void {
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
  for (const name of [file, `${file}-journal`]) closeSync(openSync(name, 'a', 0o600));
  const lock = `${file}.lock`;
  const stats = statSync(lock, { throwIfNoEntry: false });
  if (stats && now - stats.mtimeMs > staleLockMs) rmdirSync(lock);
}
