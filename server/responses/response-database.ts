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
 * `used_at` is when a response was made, or last continued: a response lives as long as what continues it, and those that
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
    conversation TEXT
  );
  CREATE INDEX IF NOT EXISTS responses_by_use ON responses (used_at);
  CREATE TABLE IF NOT EXISTS items (
    id TEXT NOT NULL,
    response_id TEXT NOT NULL REFERENCES responses (id) ON DELETE CASCADE,
    PRIMARY KEY (id, response_id)
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS items_by_response ON items (response_id);
`;

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

/** The responses that are kept, in SQLite. `now` gives milliseconds. */
export class ResponseDatabase {
  readonly #database: sqlite.Database;
  readonly #limitBytes: number;
  readonly #ttlMs: number;
  #bytes: number;

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
      this.#database.exec(tables);
    } catch (error) {
      throw new ApiError(
        500,
        'store_error',
        `--store-file ${file} cannot be used: ${(error as Error).message}`,
      );
    }
    const total = this.#database.get('SELECT coalesce(sum(bytes), 0) AS bytes FROM responses');
    this.#bytes = Number((total as { bytes: number }).bytes);
    this.deleteExpired();
  }

  put({ id, previousId, resource, input, conversation, itemIds }: StoredResponse): void {
    const bytes = [resource, input, conversation ?? ''].reduce(
      (sum, text) => sum + Buffer.byteLength(text),
      0,
    );
    if (bytes > this.#limitBytes) {
      throw new ApiError(500, 'store_error', `a response of ${bytes} bytes is larger than --store-limit`);
    }
    this.#atOnce(() => {
      this.#database.run('INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?)', [
        id,
        previousId,
        this.now(),
        bytes,
        resource,
        input,
        conversation,
      ]);
      for (const item of itemIds) {
        this.#database.run('INSERT OR IGNORE INTO items VALUES (?, ?)', [item, id]);
      }
      this.#bytes += bytes;
      this.#database.run(continued, [previousId, this.now()]);
      this.deleteExpired();
      this.#makeRoom();
    });
  }

  get(id: string): string | null {
    return this.#row(id)?.resource ?? null;
  }

  delete(id: string): boolean {
    if (!this.#row(id)) return false;
    this.#deleteWhere('id = ?', id);
    return true;
  }

  items(id: string): string | null {
    const row = this.#row(id);
    if (!row) return null;
    const before = row.conversation ?? joinItems(this.#before(row.previous_id).flatMap(turn));
    return joinItems([before, row.input]);
  }

  find({ previousResponseId, itemIds }: ResponseNeeds, maxBytes: number): FoundItems {
    const items = Object.fromEntries(itemIds.map((id) => [id, this.#item(id)]));
    const rows = this.#before(previousResponseId, (gone) => previousNotFound(gone));
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

  #row(id: string | null): Row | undefined {
    if (id === null) return undefined;
    const row = this.#database.get('SELECT * FROM responses WHERE id = ? AND used_at > ?', [
      id,
      this.now() - this.#ttlMs,
    ]);
    return (row ?? undefined) as Row | undefined;
  }

  /** The response `id` and those it continues, oldest first, as far as they are there or until `gone` says otherwise. */
  #before(id: string | null, gone?: (id: string) => Error): Row[] {
    const rows: Row[] = [];
    for (let next = id; next !== null; ) {
      const row = this.#row(next);
      if (!row && gone) throw gone(next);
      if (row) rows.push(row);
      next = row?.conversation === null ? row.previous_id : null;
    }
    return rows.reverse();
  }

  #item(id: string): string {
    const found = this.#database.get(
      'SELECT response_id FROM items JOIN responses ON responses.id = response_id WHERE items.id = ? ORDER BY used_at DESC',
      [id],
    ) as { response_id: string } | null;
    const row = this.#row(found?.response_id ?? null);
    if (!row) throw itemNotFound(id);
    const { output } = JSON.parse(row.resource) as { output: { id: string }[] };
    const item = [...output, ...(JSON.parse(row.input) as { id: string }[])].find((one) => one.id === id);
    return JSON.stringify(item);
  }

  #makeRoom(): void {
    while (this.#bytes > this.#limitBytes) {
      const oldest = this.#database.get('SELECT id FROM responses ORDER BY used_at, rowid LIMIT 1');
      this.#deleteWhere('id = ?', (oldest as { id: string }).id);
    }
  }

  #deleteWhere(condition: string, value: string | number): void {
    const gone = this.#database.all(`DELETE FROM responses WHERE ${condition} RETURNING bytes`, [value]);
    for (const row of gone) this.#bytes -= Number((row as { bytes: number }).bytes);
  }

  #atOnce(change: () => void): void {
    const bytes = this.#bytes;
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
