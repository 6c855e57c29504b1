/** A text that still grows, and how far it has been read. */
export class GrowingText {
  text = '';
  /** What comes next stands here. */
  at = 0;
  /** Nothing more will come. */
  ended = false;

  /** Lets go of what stands before `end`, and gives it. */
  take(end: number): string {
    const taken = this.text.slice(0, end);
    this.text = this.text.slice(end);
    this.at = Math.max(0, this.at - end);
    return taken;
  }
}

/** Reads a text while it grows: gives what it finds, and nothing where it has to wait for more. */
export type Reading<Found, Result> = Generator<Found | undefined, Result, void>;

/** A reading that gives its result alone. */
export type Waiting<Result> = Reading<undefined, Result>;

/** The next character; empty where the text has ended. */
export function* peek(input: GrowingText): Waiting<string> {
  while (input.at >= input.text.length && !input.ended) yield undefined;
  return input.text.charAt(input.at);
}

export function* skipSpace(input: GrowingText): Waiting<void> {
  while (/\s/.test(yield* peek(input))) input.at++;
}

/** Passes over `literal` where it comes next. */
export function* skipLiteral(input: GrowingText, literal: string): Waiting<boolean> {
  for (;;) {
    const coming = begins(input, literal);
    if (coming === 'yes') input.at += literal.length;
    if (coming !== 'perhaps') return coming === 'yes';
    yield undefined;
  }
}

/** Whether `literal` comes next, as far as the text is there. */
export function begins({ text, at, ended }: GrowingText, literal: string): 'yes' | 'no' | 'perhaps' {
  const coming = text.slice(at, at + literal.length);
  if (coming === literal) return 'yes';
  return !ended && literal.startsWith(coming) ? 'perhaps' : 'no';
}
