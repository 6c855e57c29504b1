import type { VocabularyBytes } from '../device/device.js';
import type { Tokenizer } from '../model/text.js';

/** A tokenizer's tokens as a device takes them. */
export function vocabularyBytes(tokenizer: Tokenizer, endTokens: readonly number[]): VocabularyBytes {
  const begins = new Int32Array(tokenizer.vocabSize + 1);
  const special: number[] = [];
  const parts: Uint8Array[] = [];
  for (let token = 0; token < tokenizer.vocabSize; token++) {
    const bytes = tokenizer.tokenBytes(token);
    parts.push(bytes);
    begins[token + 1] = begins[token]! + bytes.length;
    if (tokenizer.isSpecial(token)) special.push(token);
  }
  return {
    bytes: Uint8Array.from(Buffer.concat(parts)),
    begins,
    special: Int32Array.from(special),
    endTokens: Int32Array.from(endTokens),
  };
}
