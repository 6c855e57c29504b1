/**
 * A byte-level vocabulary of any size: the 256 bytes in GPT-2's alphabet, words that no merge reaches (so text is read
 * byte by byte, and every id still has a text), what a text cannot write, bos and eos.
 */
export interface Vocabulary {
  /** In order of id. */
  readonly tokens: readonly string[];
  readonly bos: number;
  readonly eos: number;
  /** Ids of all that steer the model and are no text; bos and eos too. */
  readonly special: readonly number[];
}

export function byteLevelVocabulary(size: number, steering: readonly string[] = []): Vocabulary {
  const special = [...steering, '<|begin_of_text|>', '<|end_of_text|>'];
  const alphabet = byteAlphabet();
  const words = Array.from(
    { length: size - alphabet.length - special.length },
    (_, index) => `Ġ${word(index)}`,
  );
  return {
    tokens: [...alphabet, ...words, ...special],
    bos: size - 2,
    eos: size - 1,
    special: special.map((_, index) => size - special.length + index),
  };
}

/** GPT-2's character for each byte: itself where it is printable, else one from 256 on. */
function byteAlphabet(): string[] {
  const printable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
}

/** Different for each index, and at least two letters, so that none is a byte's character. */
function word(index: number): string {
  let rest = index;
  let letters = '';
  for (let i = 0; i < 2 || rest > 0; i += 1) {
    letters += String.fromCharCode(97 + (rest % 26));
    rest = Math.floor(rest / 26);
  }
  return letters;
}
