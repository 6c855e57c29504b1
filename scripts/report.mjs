/**
 * Says what long steps are doing, several beside each other: one line that moves on a terminal, plain lines elsewhere. On
 * stderr, so that a command's own output stays clean.
 */
export class Report {
  #stream;
  #tty;
  /** Of each step that runs, what the moving line says. */
  #running = new Map();

  constructor(stream = process.stderr) {
    this.#stream = stream;
    this.#tty = stream.isTTY === true;
  }

  /**
   * Runs a step.
   * @template T
   * @param {string} title
   * @param {(progress: (fraction: number) => void) => Promise<T>} work calls `progress` with 0 to 1
   * @returns {Promise<T>}
   */
  async during(title, work) {
    const started = performance.now();
    this.#say(title, title, `${title}\n`);
    let quarter = 0;
    const progress = (fraction) => {
      const percent = Math.floor(fraction * 100);
      const isNext = Math.floor(percent / 25) > quarter && percent < 100;
      if (isNext) quarter = Math.floor(percent / 25);
      this.#say(title, `${title} ${percent}%`, isNext ? `${title} ${percent}%\n` : '');
    };
    try {
      const result = await work(progress);
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      this.#end(title, `${title} (${seconds} s)`, `${title}: done (${seconds} s)`);
      return result;
    } catch (error) {
      this.#end(title, `${title}: failed`, `${title}: failed`);
      throw error;
    }
  }

  #say(title, moving, plain) {
    this.#running.set(title, moving);
    if (this.#tty) this.#draw();
    else if (plain) this.#stream.write(`tandem: ${plain}`);
  }

  #end(title, onTerminal, plain) {
    this.#running.delete(title);
    this.#stream.write(this.#tty ? `\r\x1b[Ktandem: ${onTerminal}\n` : `tandem: ${plain}\n`);
    if (this.#tty && this.#running.size > 0) this.#draw();
  }

  #draw() {
    this.#stream.write(`\r\x1b[Ktandem: ${[...this.#running.values()].join(', ')}`);
  }
}
