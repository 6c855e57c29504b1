/** An escape, or the first half of a pair of them, to which more may belong. */
const unfinished =
  /(?<=(?:^|[^\\])(?:\\\\)*)(?:\\(?:u[\da-fA-F]{0,3})?|\\u[dD][89abAB][\da-fA-F]{2}(?:\\(?:u[\da-fA-F]{0,3})?)?|[\ud800-\udbff])$/;

const escapes = /\\(?:u([\da-fA-F]{4})|([\s\S]))/g;

const characters: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
};

/** How much at the end of JSON text, which begins with a whole character, is only a part of a character in a string. */
export function unfinishedLength(json: string): number {
  return unfinished.exec(json)?.[0].length ?? 0;
}

/** What stands in a JSON string; an escape that JSON does not have stays as it is. */
export function unescaped(json: string): string {
  return json.replace(escapes, (written: string, unit: string | undefined, letter: string) =>
    unit === undefined ? (characters[letter] ?? written) : String.fromCharCode(Number.parseInt(unit, 16)),
  );
}
