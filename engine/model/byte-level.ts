/**
 * GPT-2's byte alphabet: each byte has one printable character, so that byte-level vocabularies are readable JSON.
 * Printable Latin-1 stands for itself; the other 68 bytes take the characters from U+0100 on.
 */
export const charOfByte: readonly string[] = buildAlphabet();

/** Char code to byte, -1 for characters outside the alphabet; the largest is U+0143. */
const byteOfCharCode: Int16Array = buildInverse();

function buildAlphabet(): string[] {
  const alphabet: string[] = [];
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable =
      (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
    alphabet.push(String.fromCharCode(printable ? byte : next++));
  }
  return alphabet;
}

function buildInverse(): Int16Array {
  const inverse = new Int16Array(0x144).fill(-1);
  for (const [byte, char] of charOfByte.entries()) inverse[char.charCodeAt(0)] = byte;
  return inverse;
}

/** Bytes of a vocabulary entry, or undefined if it has a character outside the alphabet (some added tokens do). */
export function bytesOfPiece(piece: string): Uint8Array | undefined {
  const bytes = new Uint8Array(piece.length);
  for (let i = 0; i < piece.length; i++) {
    const code = piece.charCodeAt(i);
    const byte = code < byteOfCharCode.length ? byteOfCharCode[code]! : -1;
    if (byte < 0) return undefined;
    bytes[i] = byte;
  }
  return bytes;
}
