import type { DfaState } from './dfa.js';

/** Bytes that are alike are one class. Classes are numbered as their first bytes. */
export interface Classes {
  /** [256] */
  readonly byteClasses: Uint8Array;
  /** The first byte of each. */
  readonly firstBytes: readonly number[];
}

/** Bytes that neither an edge nor one of the other divisions tells apart are one class. */
export function classesOf(states: readonly DfaState[], others: readonly Classes[]): Classes {
  const begins = new Uint8Array(257);
  begins[0] = 1;
  for (const { bytes } of states) {
    for (const { from, to } of bytes) {
      begins[from] = 1;
      begins[to + 1] = 1;
    }
  }
  for (const { firstBytes } of others) for (const byte of firstBytes) begins[byte] = 1;
  const byteClasses = new Uint8Array(256);
  const firstBytes: number[] = [];
  for (let byte = 0; byte < 256; byte++) {
    if (begins[byte]) firstBytes.push(byte);
    byteClasses[byte] = firstBytes.length - 1;
  }
  return { byteClasses, firstBytes };
}
