import { pageClasses } from '../../engine/device/device.js';
import type { SeenPages } from '../../engine/kv/sparse-prefill.js';

// What tokens are worth to a `HashingDevice`, of so many layers.

export const pageTokens = 32;
export const vocab = 997;
export const layers = 2;
export const int8 = new Uint8Array(layers).fill(pageClasses.indexOf('int8'));

function mix(a: number, b: number): number {
  let mixed = Math.imul(a ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(b + 0x7f4a7c15, 0xc2b2ae35);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b3c6d);
  return (mixed ^ (mixed >>> 13)) >>> 0;
}

/** What becomes of a token's value when it is packed. */
export const packedValue = (value: number, classes: Uint8Array) => classes.reduce(mix, value);

/** What is read of a value that a step writes to a block of these classes. */
export const writtenValue = (value: number, classes: Uint8Array) =>
  classes.every((place) => place === 0) ? value : packedValue(value, classes);

/** A token's value depends on the values of all before it, in the form in which they are read. */
export function valueBehind(token: number, before: Iterable<number>): number {
  let value = token;
  for (const one of before) value = mix(value, one);
  return value;
}

/** Where a token at `position` looks: [layers, pages]. */
export function attentionOf(value: number, position: number): Uint32Array {
  const pages = Math.floor(position / pageTokens) + 1;
  return Uint32Array.from({ length: layers * pages }, (_, at) => mix(mix(value, at % pages), at) % 2 ** 20);
}

/** What is read of values by rows that look at some pages only. */
export function readBy(seen: SeenPages | undefined, values: number[]): number[] {
  if (!seen) return values;
  return values.flatMap((value, index) => {
    const page = Math.floor(index / pageTokens);
    if (page >= seen.pages) return [value];
    let flags = 0;
    for (let layer = 0; layer < layers; layer++) flags = 2 * flags + seen.isSeen[layer * seen.pages + page]!;
    if (flags === 0) return [];
    return [flags === 2 ** layers - 1 ? value : mix(value, flags)];
  });
}
