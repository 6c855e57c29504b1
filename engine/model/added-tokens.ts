import { escapeLiteral } from './regex-translation.js';
import type { AddedToken } from './tokenizer-files.js';

/** Finds added tokens written in a text: the leftmost, of those the longest. */
export class AddedTokenFinder {
  readonly #pattern: RegExp | undefined;
  readonly #tokenOf: ReadonlyMap<string, AddedToken>;

  /** `writtenAs`: how a token looks in the text that is searched, for those looked for after normalizing. */
  constructor(tokens: readonly AddedToken[], writtenAs: (token: AddedToken) => string) {
    this.#tokenOf = new Map(tokens.map((token) => [writtenAs(token), token]));
    const contents = [...this.#tokenOf.keys()].filter((content) => content !== '');
    contents.sort((a, b) => b.length - a.length);
    this.#pattern =
      contents.length === 0 ? undefined : new RegExp(contents.map(escapeLiteral).join('|'), 'g');
  }

  /** Calls back with the text between tokens and with the tokens, in order; empty texts are left out. */
  split(
    text: string,
    onText: (piece: string, begin: number) => void,
    onToken: (token: AddedToken) => void,
  ): void {
    const pattern = this.#pattern;
    let done = 0;
    if (pattern) {
      pattern.lastIndex = 0;
      for (let match = pattern.exec(text); match; match = pattern.exec(text)) {
        const token = this.#tokenOf.get(match[0])!;
        let begin = match.index;
        let end = begin + match[0].length;
        if (token.singleWord && !standsAlone(text, begin, end)) continue;
        if (token.lstrip) begin = spaceBefore(text, begin, done);
        if (token.rstrip) end = spaceAfter(text, end);
        if (begin > done) onText(text.slice(done, begin), done);
        onToken(token);
        done = end;
        pattern.lastIndex = end;
      }
    }
    if (done < text.length) onText(done === 0 ? text : text.slice(done), done);
  }
}

const wordCharacter = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}]/u;
const whiteSpace = /\p{White_Space}/u;

function standsAlone(text: string, begin: number, end: number): boolean {
  const before =
    begin === 0 ? '' : text.slice(isLowSurrogate(text, begin - 1) ? begin - 2 : begin - 1, begin);
  const after = end >= text.length ? '' : String.fromCodePoint(text.codePointAt(end)!);
  return !wordCharacter.test(before) && !wordCharacter.test(after);
}

function isLowSurrogate(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  return at > 0 && code >= 0xdc00 && code <= 0xdfff;
}

function spaceBefore(text: string, begin: number, least: number): number {
  while (begin > least && whiteSpace.test(text[begin - 1]!)) begin--;
  return begin;
}

function spaceAfter(text: string, end: number): number {
  while (end < text.length && whiteSpace.test(text[end]!)) end++;
  return end;
}
