import { accessSync, constants, existsSync, mkdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { InvalidArgumentError } from 'commander';

/** Parsers of option values for commander: each refuses what it cannot mean, in commander's way. */

export function wholeNumber(minimum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < minimum) {
      throw new InvalidArgumentError(`Expected a whole number of ${minimum} or more.`);
    }
    return value;
  };
}

export function positiveNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value <= 0) {
    throw new InvalidArgumentError('Expected a number above 0.');
  }
  return value;
}

/** Separated by commas: `1,8,16`. */
export function wholeNumbers(text: string): number[] {
  return text.split(',').map(wholeNumber(1));
}

/** Separated by commas, each one of `choices`. */
export function listOf<T extends string>(choices: readonly T[]): (text: string) => T[] {
  return (text) =>
    text.split(',').map((word) => {
      const choice = choices.find((known) => known === word);
      if (choice === undefined) {
        throw new InvalidArgumentError(`"${word}" is none of ${choices.join(', ')}.`);
      }
      return choice;
    });
}

export function httpUrl(text: string): string {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new InvalidArgumentError('Expected a URL as http://127.0.0.1:8000.');
  }
  return text;
}

/** A file for results, in a folder that is made: whether it can be written is known before anything is measured. */
export function fileToWrite(text: string): string {
  const file = path.resolve(text);
  try {
    mkdirSync(path.dirname(file), { recursive: true });
    accessSync(existsSync(file) ? file : path.dirname(file), constants.W_OK);
  } catch (error) {
    throw new InvalidArgumentError(`It cannot be written: ${(error as Error).message}.`);
  }
  if (existsSync(file) && statSync(file).isDirectory()) {
    throw new InvalidArgumentError('It is a folder; name a file.');
  }
  return text;
}

/** A parser of our own, which throws Errors, as commander wants it. */
export function parsed<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      throw new InvalidArgumentError((error as Error).message);
    }
  };
}

/** Separated by commas: `1.1,2`. */
export function positiveNumbers(text: string): number[] {
  return text.split(',').map(positiveNumber);
}
