/**
 * Translates the regular expressions of `tokenizer.json` (Oniguruma's syntax) to JavaScript's with the `u` flag.
 * Returns undefined for what JavaScript cannot say or this does not know: possessive quantifiers, atomic groups,
 * nested character classes, line anchors. Callers then take the general tokenizer.
 */
export function translateRegex(source: string): string | undefined {
  try {
    const translated = new Translation(source).run();
    new RegExp(translated, 'u');
    return translated;
  } catch (error) {
    if (error instanceof Untranslatable || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

class Untranslatable extends Error {}

// JavaScript's \s has U+FEFF and lacks U+0085; its \w and \d are ASCII.
const classEscapes: Readonly<Record<string, string>> = {
  s: '\\p{White_Space}',
  S: '\\P{White_Space}',
  d: '\\p{Nd}',
  D: '\\P{Nd}',
  w: '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}',
};
const controlEscapes = 'rntfv';

/** Letters that fold to an ASCII letter beside its other case. */
const extraFolds: Readonly<Record<string, string>> = { s: '\u017f', k: '\u212a' };

class Translation {
  #at = 0;
  /** Whether case is ignored, per open group. */
  #ignoreCase = [false];

  constructor(readonly source: string) {}

  run(): string {
    let out = '';
    while (this.#at < this.source.length) out += this.#item();
    if (this.#ignoreCase.length !== 1) throw new Untranslatable();
    return out;
  }

  #item(): string {
    const char = this.#take();
    switch (char) {
      case '\\':
        return this.#escape(false);
      case '[':
        return this.#class();
      case '(':
        return this.#group();
      case ')':
        this.#ignoreCase.pop();
        if (this.#ignoreCase.length === 0) throw new Untranslatable();
        return ')';
      case '|':
        return '|';
      case '.':
        return '[^\\n]';
      case '^':
      case '$':
        throw new Untranslatable();
      case '*':
      case '+':
      case '?':
        return this.#quantifier(char);
      case '{': {
        const match = /^(\d*)(,?)(\d*)\}/.exec(this.source.slice(this.#at));
        if (!match || (match[1] === '' && match[3] === '')) return '\\{';
        this.#at += match[0].length;
        return this.#quantifier(`{${match[1] || '0'}${match[2]}${match[3]}}`);
      }
      default:
        return this.#literal(char);
    }
  }

  #take(): string {
    const code = this.source.codePointAt(this.#at);
    if (code === undefined) throw new Untranslatable();
    const char = String.fromCodePoint(code);
    this.#at += char.length;
    return char;
  }

  #quantifier(quantifier: string): string {
    const following = this.source[this.#at];
    if (following === '+') throw new Untranslatable();
    if (following !== '?') return quantifier;
    this.#at++;
    return `${quantifier}?`;
  }

  #group(): string {
    const kind = /^\?(?:[:=!]|<[=!])/.exec(this.source.slice(this.#at));
    if (kind) {
      this.#at += kind[0].length;
      this.#ignoreCase.push(this.#ignoreCase.at(-1)!);
      return `(${kind[0]}`;
    }
    const flags = /^\?(-?i)([:)])/.exec(this.source.slice(this.#at));
    if (flags) {
      this.#at += flags[0].length;
      const ignoreCase = flags[1] === 'i';
      if (flags[2] === ')') {
        this.#ignoreCase[this.#ignoreCase.length - 1] = ignoreCase;
        return '';
      }
      this.#ignoreCase.push(ignoreCase);
      return '(?:';
    }
    if (this.source[this.#at] === '?') throw new Untranslatable();
    this.#ignoreCase.push(this.#ignoreCase.at(-1)!);
    return '(?:';
  }

  #literal(char: string): string {
    if (this.#ignoreCase.at(-1)) {
      const lower = char.toLowerCase();
      const upper = char.toUpperCase();
      if (lower !== upper) {
        if (!/^[a-z]$/.test(lower)) throw new Untranslatable();
        return `[${lower}${upper}${extraFolds[lower] ?? ''}]`;
      }
    }
    return escapeLiteral(char);
  }

  /** After a backslash. */
  #escape(inClass: boolean): string {
    const char = this.#take();
    if (char === 'p' || char === 'P') return this.#property(char);
    if (Object.hasOwn(classEscapes, char)) {
      const set = classEscapes[char]!;
      return inClass || set.indexOf('}') === set.length - 1 ? set : `[${set}]`;
    }
    if (controlEscapes.includes(char)) return `\\${char}`;
    if (char === 'x' || char === 'u') return this.#codePoint(char);
    if (/[A-Za-z0-9]/.test(char)) throw new Untranslatable();
    return inClass ? escapeInClass(char) : this.#literal(char);
  }

  #property(kind: string): string {
    const match = /^\{(\^?)([A-Za-z_ ]+)\}/.exec(this.source.slice(this.#at));
    if (!match) throw new Untranslatable();
    this.#at += match[0].length;
    const name = match[2]!.replace(/ /g, '_');
    const negated = (kind === 'P') !== (match[1] === '^');
    const known = [name, `Script=${name}`].find(isProperty);
    if (!known) throw new Untranslatable();
    return `\\${negated ? 'P' : 'p'}{${known}}`;
  }

  #codePoint(kind: string): string {
    const pattern = kind === 'u' ? /^([0-9A-Fa-f]{4})/ : /^(?:\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{2}))/;
    const match = pattern.exec(this.source.slice(this.#at));
    if (!match) throw new Untranslatable();
    this.#at += match[0].length;
    return `\\u{${match[1] ?? match[2]}}`;
  }

  /** After an opening bracket. */
  #class(): string {
    if (this.#ignoreCase.at(-1)) throw new Untranslatable();
    let out = '[';
    if (this.source[this.#at] === '^') {
      this.#at++;
      out += '^';
    }
    if (this.source[this.#at] === ']') throw new Untranslatable();
    for (;;) {
      const char = this.#take();
      if (char === ']') return `${out}]`;
      if (char === '[' || (char === '&' && this.source[this.#at] === '&')) throw new Untranslatable();
      if (char === '\\') out += this.#escape(true);
      else out += char === '-' ? '-' : escapeInClass(char);
    }
  }
}

function isProperty(name: string): boolean {
  try {
    new RegExp(`\\p{${name}}`, 'u');
    return true;
  } catch {
    return false;
  }
}

export function escapeLiteral(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
}

function escapeInClass(char: string): string {
  return /[\\^\]\-[]/.test(char) ? `\\${char}` : char;
}
