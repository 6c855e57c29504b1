import { readFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { type Arrival, noHashes, type Workload } from './workload.js';

export interface TraceOptions {
  /** On prompts and outputs; hashes are left out where it is not 1, since blocks are then others. */
  readonly lengthScale: number;
}

/**
 * A recorded trace: Azure's CSV (TIMESTAMP, ContextTokens, GeneratedTokens), Mooncake's JSON lines (timestamp in ms,
 * input_length, output_length, hash_ids) or a CSV of lengths alone (num_prefill_tokens, num_decode_tokens), told apart by
 * their first line. Throws an Error that names the file and the line.
 */
export function readTrace(file: string, options: TraceOptions = { lengthScale: 1 }): Workload {
  const lines = textOf(file).split(/\r?\n/);
  while (lines.at(-1) === '') lines.pop();
  const records = parseLines(file, lines).map((record) => scaled(record, options.lengthScale));
  if (records.length === 0) throw new Error(`${file} holds no request`);
  const hasTimes = records.every(({ atSeconds }) => !Number.isNaN(atSeconds));
  if (hasTimes) records.sort((a, b) => a.atSeconds - b.atSeconds);
  const first = records[0]!.atSeconds;
  const seconds = records.at(-1)!.atSeconds - first;
  const recordedRate = hasTimes && seconds > 0 ? (records.length - 1) / seconds : null;
  return {
    name: path.basename(file),
    recordedRate,
    count: records.length,
    *arrivals(rate, count, random) {
      let atSeconds = 0;
      for (const record of records.slice(0, count)) {
        // Time is stretched, so that what came in a burst still does.
        if (recordedRate !== null) atSeconds = ((record.atSeconds - first) * recordedRate) / rate;
        else atSeconds += random.exponential(1 / rate);
        yield { ...record, atSeconds };
      }
    },
  };
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new Error(`${file} cannot be read: ${(error as Error).message}`);
  }
}

function parseLines(file: string, lines: readonly string[]): Arrival[] {
  const head = lines[0] ?? '';
  if (head.startsWith('{')) return lines.map((line, index) => mooncake(`${file}:${index + 1}`, line));
  const columns = head.split(',').map((column) => column.trim());
  const azure = ['TIMESTAMP', 'ContextTokens', 'GeneratedTokens'].map((name) => columns.indexOf(name));
  const lengths = ['num_prefill_tokens', 'num_decode_tokens'].map((name) => columns.indexOf(name));
  if (!azure.includes(-1)) {
    return rows(
      file,
      lines,
      ([time, prompt, output], where) => ({
        atSeconds: seconds(time!, where),
        promptTokens: tokens(prompt!, where),
        outputTokens: tokens(output!, where),
        blockHashes: noHashes,
      }),
      azure,
    );
  }
  if (!lengths.includes(-1)) {
    return rows(
      file,
      lines,
      ([prompt, output], where) => ({
        atSeconds: Number.NaN,
        promptTokens: tokens(prompt!, where),
        outputTokens: tokens(output!, where),
        blockHashes: noHashes,
      }),
      lengths,
    );
  }
  throw new Error(
    `${file} is no trace that is known: expected JSON lines with "input_length", or a CSV with the columns ` +
      'TIMESTAMP,ContextTokens,GeneratedTokens or num_prefill_tokens,num_decode_tokens',
  );
}

function rows(
  file: string,
  lines: readonly string[],
  read: (cells: string[], where: string) => Arrival,
  columns: readonly number[],
): Arrival[] {
  return lines.slice(1).map((line, index) => {
    const cells = line.split(',');
    return read(
      columns.map((column) => cells[column]?.trim() ?? ''),
      `${file}:${index + 2}`,
    );
  });
}

const MooncakeRecord = z.object({
  timestamp: z.number(),
  input_length: z.int().positive(),
  output_length: z.int().nonnegative(),
  hash_ids: z.array(z.int()).default([]),
});

function mooncake(where: string, line: string): Arrival {
  let content: unknown;
  try {
    content = JSON.parse(line);
  } catch (error) {
    throw new Error(`${where} is no JSON: ${(error as Error).message}`);
  }
  const parsed = MooncakeRecord.safeParse(content);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new Error(`${where}: ${issue!.path.join('.')}: ${issue!.message}`);
  }
  const { timestamp, input_length, output_length, hash_ids } = parsed.data;
  return {
    atSeconds: timestamp / 1000,
    promptTokens: input_length,
    outputTokens: Math.max(1, output_length),
    blockHashes: hash_ids,
  };
}

function tokens(cell: string, where: string): number {
  const value = Number(cell);
  if (!/^\d+$/.test(cell)) throw new Error(`${where}: "${cell}" is no number of tokens`);
  return Math.max(1, value);
}

/** `2023-11-16 18:17:03.9799600`, to the microsecond: Date knows milliseconds only. */
function seconds(cell: string, where: string): number {
  const [, whole, fraction] = /^(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(\.\d+)?$/.exec(cell) ?? [];
  const milliseconds = Date.parse(`${whole?.replace(' ', 'T')}Z`);
  if (Number.isNaN(milliseconds)) throw new Error(`${where}: "${cell}" is no time`);
  return milliseconds / 1000 + Number(fraction ?? 0);
}

function scaled(arrival: Arrival, factor: number): Arrival {
  if (factor === 1) return arrival;
  const tokensOf = (count: number) => Math.max(1, Math.round(count * factor));
  return {
    atSeconds: arrival.atSeconds,
    promptTokens: tokensOf(arrival.promptTokens),
    outputTokens: tokensOf(arrival.outputTokens),
    blockHashes: noHashes,
  };
}
