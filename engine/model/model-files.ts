import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { EngineError } from '../errors.js';

/** `where` is a file, or a file and the thing in it. */
export function invalidModel(where: string, problem: string): EngineError {
  return new EngineError('model_invalid', `${where}: ${problem}`);
}

/** A name from a file, made fit for a message: quoted, with control characters escaped, and not endless. */
export function quoted(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length <= 120 ? text : `${text.slice(0, 117)}...`;
}

export async function fileExists(file: string): Promise<boolean> {
  return stat(file).then(
    (found) => found.isFile(),
    () => false,
  );
}

/** The file's text, or undefined if there is no such file. Larger files than `maxBytes` are refused unread. */
export async function readTextIfThere(file: string, maxBytes: number): Promise<string | undefined> {
  let bytes: Buffer;
  try {
    const found = await stat(file);
    if (!found.isFile()) throw invalidModel(file, 'expected a file');
    if (found.size > maxBytes) {
      throw invalidModel(file, `is ${found.size} bytes long; at most ${maxBytes} are expected`);
    }
    bytes = await readFile(file);
  } catch (error) {
    if (error instanceof EngineError) throw error;
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw invalidModel(file, `cannot be read (${(error as Error).message})`);
  }
  return bytes.toString('utf8');
}

/** The JSON file's value, or undefined if there is no such file. */
export async function readJsonIfThere(file: string, maxBytes: number): Promise<unknown> {
  const text = await readTextIfThere(file, maxBytes);
  if (text === undefined) return undefined;
  return parseJson(file, text);
}

export function parseJson(where: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw invalidModel(where, `is not valid JSON (${(error as Error).message.slice(0, 200)})`);
  }
}

/** Refuses a path that is no folder, with what to do instead. */
export async function requireFolder(folder: string): Promise<void> {
  const found = await stat(folder).catch(() => undefined);
  if (found?.isDirectory()) return;
  if (found && path.extname(folder).toLowerCase() === '.gguf') {
    throw invalidModel(
      folder,
      'GGUF files are not supported; give a folder in Hugging Face layout (safetensors)',
    );
  }
  throw invalidModel(folder, found ? 'is not a folder' : 'there is no such folder');
}
