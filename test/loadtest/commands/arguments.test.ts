import { chmodSync, existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { fileToWrite } from '../../../loadtest/commands/arguments.js';

describe('a file for results', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'tandem-arguments-'));

  it('is known before anything is measured, and nothing is written yet', () => {
    const file = path.join(folder, 'new', 'rows.json');
    expect(fileToWrite(file)).toBe(file);
    expect(existsSync(path.dirname(file))).toBe(true);
    expect(existsSync(file)).toBe(false);
  });

  it('keeps what it holds until there is something new', () => {
    const file = path.join(folder, 'old.json');
    writeFileSync(file, 'rows');
    fileToWrite(file);
    expect(readFileSync(file, 'utf8')).toBe('rows');
  });

  it('is refused where it is a folder or lies behind a file', () => {
    expect(() => fileToWrite(folder)).toThrow('It is a folder; name a file.');
    const file = path.join(folder, 'file');
    writeFileSync(file, '');
    expect(() => fileToWrite(path.join(file, 'rows.json'))).toThrow(/It cannot be written: (ENOTDIR|EEXIST)/);
  });

  it.skipIf(process.getuid?.() === 0)('is refused where nobody may write', () => {
    const file = path.join(folder, 'kept.json');
    writeFileSync(file, '');
    chmodSync(file, 0o400);
    expect(() => fileToWrite(file)).toThrow(/It cannot be written: EACCES/);
  });
});
