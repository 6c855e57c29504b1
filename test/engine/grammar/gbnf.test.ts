import { describe, expect, it } from 'vitest';
import { compileGrammar } from '../../../engine/index.js';
import { accepts } from '../../support/table-matcher.js';

const compile = (text: string) => compileGrammar({ type: 'gbnf', text, param: 'grammar' }).tables;

describe("a grammar's text", () => {
  it.each<[string, string, readonly string[], readonly string[]]>([
    ['texts and choices', 'root ::= "yes" | "no" | ""', ['yes', 'no', ''], ['y', 'yesno']],
    ['rules in any order, comments', '# c\nroot ::= a b # d\nb ::= "2"\na ::= "1"', ['12'], ['1', '21']],
    ['a choice over lines', 'root ::=\n  "a" |\n  "b"', ['a', 'b'], ['ab']],
    [
      'counts',
      'root ::= "a"{2} "b"{1,3} "c"{2,} "d"? "e"* "f"+',
      ['aabccf', 'aabbbccccdeeff'],
      ['abccf', 'aabbbbccf', 'aabccd'],
    ],
    ['groups', 'root ::= ("a" ("b" | "c"))+', ['ab', 'abac'], ['a', 'bc']],
    ['classes', 'root ::= [a-c_] [^a-c"] [\\]\\-x]', ['ad]', '_é-'], ['da]', 'aa]']],
    ['any character', 'root ::= . "x"', ['😀x', '\nx'], ['x']],
    ['escapes', 'root ::= "\\n\\"\\\\\\x41\\u00e9\\U0001F600"', ['\n"\\Aé😀'], ['n']],
    ['recursion', 'root ::= "(" root ")" | "x"', ['x', '((x))'], ['((x)', '']],
    ['hyphens in names', 'root ::= my-rule_2\nmy-rule_2 ::= "a"', ['a'], ['b']],
  ])('is read: %s', (_, text, good, bad) => {
    const tables = compile(text);
    for (const answer of good) expect([answer, accepts(tables, answer)]).toEqual([answer, true]);
    for (const answer of bad) expect([answer, accepts(tables, answer)]).toEqual([answer, false]);
  });

  it.each([
    ['a ::= "x"', "no rule 'root'"],
    ['root ::= b', "there is no rule 'b'"],
    ['root ::= "x', 'line 1, column 12: a text or class is not closed'],
    ['root ::= ("x"', "line 1, column 14: expected ')'"],
    ['root ::= "a"\nroot ::= "b"', "line 2, column 9: rule 'root' is there twice"],
    ['root = "x"', "line 1, column 6: expected '::='"],
    ['root ::= "a" )', 'line 1, column 14: expected the name of a rule'],
    ['root ::= "\\q"', "there is no escape '\\q'"],
    ['root ::= "\\u12"', 'expected 4 hexadecimal digits'],
    ['root ::= [z-a]', 'ends before it begins'],
    ['root ::= "a"{3,2}', 'the smaller first'],
    ['root ::= "a"{9999}', 'counts up to 1000'],
    ['root ::= root "a" | "a"', "rule 'root' begins with itself"],
    ['root ::= a\na ::= b* a "x" | "y"\nb ::= "z"', "rule 'a' begins with itself"],
    ['root ::= "a" root', 'never come to an end'],
    ['root ::= ((("a"{1000}){1000}){1000})', 'too large'],
    ['root ::= ("a" | "b")* "a" ("a" | "b"){30}', 'begin too much alike'],
  ])('is refused with what is wrong: %s', (text, message) => {
    expect(() => compile(text)).toThrow(message);
  });

  it('is refused where too many rules may begin at one place', () => {
    const chain = Array.from({ length: 300 }, (_, i) => `r${i} ::= r${i + 1} "x"`);
    expect(() => compile(['root ::= r0', ...chain, 'r300 ::= "y"'].join('\n'))).toThrow(
      'may begin at one place',
    );
  });
});
