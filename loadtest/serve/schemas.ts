import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

export interface NamedSchema {
  readonly name: string;
  readonly schema: unknown;
}

/**
 * The JSON schemas of a folder and those below it: a file is a schema, or a list of `{description, schema}` as the JSON Schema
 * Test Suite has them. Throws an Error that names a file that is neither.
 */
export function readSchemas(folder: string): NamedSchema[] {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.json'))
    .sort();
  if (files.length === 0) throw new Error(`${folder} has no .json files`);
  return files.flatMap((file) => {
    let content: unknown;
    try {
      content = JSON.parse(readFileSync(path.join(folder, file), 'utf8'));
    } catch (error) {
      throw new Error(`${path.join(folder, file)} is no JSON: ${(error as Error).message}`);
    }
    if (!Array.isArray(content)) return [{ name: file, schema: content }];
    return content.map((group: { description?: string; schema?: unknown }, index) => {
      if (group?.schema === undefined) {
        throw new Error(`${path.join(folder, file)}: entry ${index} has no "schema"`);
      }
      return { name: `${file}: ${group.description ?? index}`, schema: group.schema };
    });
  });
}
