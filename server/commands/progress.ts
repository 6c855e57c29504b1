const barWidth = 30;
/** Less than this is loaded before a line about it could be read. */
const quickBytes = 256 * 1024 * 1024;

/** Where progress is shown; `process.stderr` in use. */
export interface ProgressOutput {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** How far the model's load is: a bar on a terminal, a plain line each quarter elsewhere. */
export class LoadProgress {
  #quarters = 0;
  #drawn = false;

  constructor(
    private readonly title: string,
    private readonly output: ProgressOutput,
  ) {}

  /** @param done bytes of `total` */
  update(done: number, total: number): void {
    if (total <= 0) return;
    const fraction = Math.min(1, done / total);
    if (this.output.isTTY) {
      this.#drawn = true;
      const filled = Math.round(fraction * barWidth);
      const bar = '█'.repeat(filled) + '░'.repeat(barWidth - filled);
      this.output.write(`\r\x1b[K${this.title} ${bar} ${megabytes(done)} of ${megabytes(total)}`);
      return;
    }
    if (total < quickBytes) return;
    const quarters = Math.floor(fraction * 4);
    if (quarters > this.#quarters) {
      this.#quarters = quarters;
      this.output.write(`${this.title}: ${quarters * 25}% of ${megabytes(total)}\n`);
    }
  }

  /** Takes the bar away, so that the next line starts clean. */
  end(): void {
    if (this.#drawn) this.output.write('\r\x1b[K');
    this.#drawn = false;
  }
}

function megabytes(bytes: number): string {
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}
