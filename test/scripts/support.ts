import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../', import.meta.url));

/** The scripts are plain JavaScript, because they run before anything is compiled; so they come untyped. */
// biome-ignore lint/suspicious/noExplicitAny: untyped JavaScript
export function importScript(name: string): Promise<any> {
  return import(new URL(`../../scripts/${name}`, import.meta.url).href);
}

/** A folder of its own for a test, with these files. */
export class Folder implements Disposable {
  readonly path = mkdtempSync(path.join(tmpdir(), 'tandem-scripts-'));

  constructor(files: Record<string, string> = {}) {
    for (const [name, content] of Object.entries(files)) this.write(name, content);
  }

  at(name: string): string {
    return path.join(this.path, name);
  }

  write(name: string, content: string): void {
    mkdirSync(path.dirname(this.at(name)), { recursive: true });
    writeFileSync(this.at(name), content);
  }

  remove(name: string): void {
    rmSync(this.at(name));
  }

  close(): void {
    rmSync(this.path, { recursive: true, force: true });
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
