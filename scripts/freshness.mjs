import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/**
 * Decides whether a build step must run: a step is fresh when its inputs have the content they had when it last
 * succeeded and its outputs are there. Content, not times, so that a fresh clone, a copied folder and a branch
 * switched forth and back all count rightly. Hashing this repository takes some 20 ms.
 */
export class Step {
  /**
   * @param {object} options
   * @param {string} options.root folder that inputs and outputs are relative to
   * @param {string} options.stamp file that remembers the last success
   * @param {string[]} options.inputs files and folders
   * @param {RegExp} options.pattern which file names in the input folders count
   * @param {string[]} options.outputs files that must exist
   * @param {string} [options.salt] anything else the result depends on
   */
  constructor({ root, stamp, inputs, pattern, outputs, salt = '' }) {
    this.root = root;
    this.stamp = path.join(root, stamp);
    this.inputs = inputs;
    this.pattern = pattern;
    this.outputs = outputs;
    this.salt = salt;
  }

  isFresh() {
    if (!existsSync(this.stamp)) return false;
    if (!this.outputs.every((output) => existsSync(path.join(this.root, output)))) return false;
    return readFileSync(this.stamp, 'utf8') === this.fingerprint();
  }

  /**
   * Runs `work` and remembers its success. The fingerprint is taken before, so that a file edited meanwhile makes
   * the next run build again.
   */
  async run(work) {
    const fingerprint = this.fingerprint();
    rmSync(this.stamp, { force: true });
    await work();
    mkdirSync(path.dirname(this.stamp), { recursive: true });
    writeFileSync(this.stamp, fingerprint);
  }

  fingerprint() {
    const hash = createHash('sha256').update(this.salt);
    for (const input of this.inputs) {
      for (const file of listFiles(path.join(this.root, input), this.pattern)) {
        hash.update(`\0${path.relative(this.root, file)}\0`).update(readFileSync(file));
      }
    }
    return hash.digest('hex');
  }
}

/** Files of a folder and all below it, in a fixed order; a file gives itself; what does not exist gives nothing. */
export function listFiles(start, pattern) {
  let entries;
  try {
    entries = readdirSync(start, { withFileTypes: true });
  } catch (error) {
    if (error.code === 'ENOTDIR') return [start];
    if (error.code === 'ENOENT') return [];
    throw error;
  }
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  return entries.flatMap((entry) => {
    const file = path.join(start, entry.name);
    if (entry.isDirectory()) return listFiles(file, pattern);
    return pattern.test(entry.name) ? [file] : [];
  });
}
