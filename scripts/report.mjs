/**
 * Says what a long step is doing: one line that moves on a terminal, plain lines elsewhere. On stderr, so that a
 * command's own output stays clean.
 */
export class Report {
  #stream;
  #tty;
  #title = '';
  #started = 0;
  #lastQuarter = 0;

  constructor(stream = process.stderr) {
    this.#stream = stream;
    this.#tty = stream.isTTY === true;
  }

  start(title) {
    this.#title = title;
    this.#started = performance.now();
    this.#lastQuarter = 0;
    this.#stream.write(this.#tty ? `tandem: ${title}` : `tandem: ${title}\n`);
  }

  /** @param {number} fraction 0 to 1 */
  progress(fraction) {
    const percent = Math.floor(fraction * 100);
    if (this.#tty) {
      this.#stream.write(`\r\x1b[Ktandem: ${this.#title} ${percent}%`);
    } else if (Math.floor(percent / 25) > this.#lastQuarter && percent < 100) {
      this.#lastQuarter = Math.floor(percent / 25);
      this.#stream.write(`tandem: ${this.#title} ${percent}%\n`);
    }
  }

  done() {
    const seconds = ((performance.now() - this.#started) / 1000).toFixed(1);
    this.#stream.write(
      this.#tty ? `\r\x1b[Ktandem: ${this.#title} (${seconds} s)\n` : `tandem: done (${seconds} s)\n`,
    );
  }

  failed() {
    if (this.#tty) this.#stream.write('\n');
  }
}
