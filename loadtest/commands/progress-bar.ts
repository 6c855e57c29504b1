const barWidth = 30;

/** How much is done: a bar on a terminal, nothing elsewhere. */
export class ProgressBar {
  #drawn = false;

  constructor(
    private readonly title: string,
    private readonly output: { readonly isTTY?: boolean; write(text: string): unknown },
  ) {}

  update(done: number, total: number): void {
    if (!this.output.isTTY) return;
    this.#drawn = true;
    const filled = Math.round((done / total) * barWidth);
    const bar = '█'.repeat(filled) + '░'.repeat(barWidth - filled);
    this.output.write(`\r\x1b[K${this.title} ${bar} ${done} of ${total}`);
  }

  /** Takes the bar away, so that the next line starts clean. */
  end(): void {
    if (this.#drawn) this.output.write('\r\x1b[K');
    this.#drawn = false;
  }
}
