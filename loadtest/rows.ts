import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';

/** One measured figure with what is needed to measure it again. */
export const Row = z.strictObject({
  name: z.string().min(1),
  value: z.number(),
  unit: z.string().min(1),
  /** What the value is compared with, measured in the same run. */
  baseline: z.number().nullable(),
  /** value / baseline */
  ratio: z.number().nullable(),
  command: z.string().min(1),
  /** With `+` where the working copy had changes. */
  commit: z.string().min(1),
  machine: z.string().min(1),
  /** When the run began, ISO 8601, UTC. */
  date: z.iso.datetime(),
});

export type Row = z.infer<typeof Row>;

/** What one run's rows have in common. */
export type Origin = Pick<Row, 'command' | 'commit' | 'machine' | 'date'>;

/** Collects the rows of one run. A figure that could not be measured is an error here, not a gap in a table. */
export class Rows {
  readonly #rows: Row[] = [];

  constructor(private readonly origin: Origin) {}

  get all(): readonly Row[] {
    return this.#rows;
  }

  add(name: string, value: number, unit: string, baseline: number | null = null): Row {
    if (!Number.isFinite(value)) throw new RangeError(`"${name}" was not measured: ${value}`);
    if (baseline !== null && !Number.isFinite(baseline)) {
      throw new RangeError(`the baseline of "${name}" was not measured: ${baseline}`);
    }
    const ratio = baseline === null || baseline === 0 ? null : rounded(value / baseline);
    const row: Row = {
      name,
      value: rounded(value),
      unit,
      baseline: baseline === null ? null : rounded(baseline),
      ratio,
      ...this.origin,
    };
    this.#rows.push(row);
    return row;
  }

  /** Writes a JSON array, with its folder where that is missing. */
  write(file: string): void {
    mkdirSync(path.dirname(path.resolve(file)), { recursive: true });
    writeFileSync(file, `${JSON.stringify(this.#rows, null, 1)}\n`);
  }
}

/** Throws an Error that names the file and the field. */
export function parseRows(file: string, text: string): Row[] {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch (error) {
    throw new Error(`${file} is no JSON: ${(error as Error).message}`);
  }
  const parsed = z.array(Row).safeParse(content);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new Error(`${file}: ${issue!.path.join('.')}: ${issue!.message}`);
}

/** To four digits: no measurement here is better than that. */
function rounded(value: number): number {
  return Number(value.toPrecision(4));
}
