const barWidth = 30;

/** How much is done: a bar on a terminal, nothing elsewhere. */
export class ProgressBar {
  #drawn = false;

  constructor(
    private readonly title: string,
    private readonly output: { readonly isTTY?: boolean; write(text: string): unknown },
  ) {}

  /** @param done from 0 to 1 */
  update(done: number): void {
    if (!this.output.isTTY) return;
    this.#drawn = true;
    const filled = Math.round(done * barWidth);
    const bar = '█'.repeat(filled) + '░'.repeat(barWidth - filled);
    this.output.write(`\r\x1b[K${this.title} ${bar} ${Math.round(done * 100)}%`);
  }

  /** Takes the bar away, so that the next line starts clean. */
  end(): void {
    if (this.#drawn) this.output.write('\r\x1b[K');
    this.#drawn = false;
  }
}
