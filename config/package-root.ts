import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder that holds Tandem's package.json, models/ and build/, wherever the compiled file lies below it. */
export const packageRoot: string = find(path.dirname(fileURLToPath(import.meta.url)));

function find(folder: string): string {
  if (existsSync(path.join(folder, 'package.json'))) return folder;
  const parent = path.dirname(folder);
  if (parent === folder) throw new Error('package.json of Tandem not found above its compiled files');
  return find(parent);
}
