// Writes what bench-grammar reads: a vocabulary, a schema's tables, and the tokens of an answer.
//
//   node test/native/bench/grammar-case.mjs MODEL_FOLDER FILE [VOCABULARY]
//
// VOCABULARY: a .tiktoken file in place of the folder's tokens; the answer is then split greedily.
import { readFileSync, writeFileSync } from 'node:fs';
import { compileGrammar } from '../../../dist/engine/grammar/compile.js';
import { vocabularyBytes } from '../../../dist/engine/grammar/vocabulary-bytes.js';
import { openTokenizer } from '../../../dist/engine/model/tokenizer.js';

const [folder, file, tiktoken] = process.argv.slice(2);
const text = { type: 'string' };
const person = {
  type: 'object',
  properties: {
    name: text,
    age: { type: 'integer', minimum: 0, maximum: 150 },
    email: { type: 'string', format: 'email' },
    skills: { type: 'array', items: { enum: ['typescript', 'cuda', 'statistics', 'writing'] }, maxItems: 4 },
    address: {
      type: 'object',
      properties: { street: text, city: text, zip: { type: 'string', pattern: '^\\d{5}$' } },
      required: ['street', 'city', 'zip'],
      additionalProperties: false,
    },
    summary: text,
  },
  required: ['name', 'age', 'email', 'skills', 'address', 'summary'],
  additionalProperties: false,
};
const answer = JSON.stringify({
  name: 'Mira Halvorsen',
  age: 37,
  email: 'mira.halvorsen@example.org',
  skills: ['typescript', 'statistics'],
  address: { street: 'Storgata 12', city: 'Oslo', zip: '01550' },
  summary:
    'She writes servers that answer in time, and explains why they do. "Fast enough" is not a number, she says.',
});

let vocabulary;
let tokens;
if (tiktoken) {
  const texts = readFileSync(tiktoken, 'latin1')
    .trim()
    .split('\n')
    .map((line) => Buffer.from(line.split(' ')[0], 'base64'));
  const ids = new Map(texts.map((bytes, id) => [bytes.toString('latin1'), id]));
  const begins = new Int32Array(texts.length + 2);
  texts.forEach((bytes, id) => {
    begins[id + 1] = begins[id] + bytes.length;
  });
  begins[texts.length + 1] = begins[texts.length];
  const end = Int32Array.of(texts.length);
  vocabulary = { bytes: Uint8Array.from(Buffer.concat(texts)), begins, special: end, endTokens: end };
  tokens = greedy(Buffer.from(answer).toString('latin1'), ids);
} else {
  const tokenizer = await openTokenizer(folder);
  vocabulary = vocabularyBytes(tokenizer, [1]);
  tokens = [...tokenizer.encode(answer, { special: false, addBos: false })];
}

/** The longest token at each place. */
function greedy(bytes, ids) {
  const found = [];
  for (let at = 0; at < bytes.length; ) {
    let length = Math.min(64, bytes.length - at);
    while (!ids.has(bytes.slice(at, at + length))) length--;
    found.push(ids.get(bytes.slice(at, at + length)));
    at += length;
  }
  return found;
}

const begin = performance.now();
const { tables } = compileGrammar({ type: 'schema', schema: person, lenient: false });
const ms = performance.now() - begin;
const columns = [
  vocabulary.bytes,
  vocabulary.begins,
  vocabulary.special,
  vocabulary.endTokens,
  tables.byteClasses,
  tables.next,
  tables.callBegins,
  tables.callRules,
  tables.callReturns,
  tables.accepting,
  tables.ruleStarts,
  Int32Array.from(tokens),
];
// Each column: how many bytes, as a 64-bit number, and they.
writeFileSync(
  file,
  Buffer.concat(
    columns.flatMap((column) => [
      Buffer.from(BigInt64Array.of(BigInt(column.byteLength)).buffer),
      Buffer.from(Uint8Array.from(new Uint8Array(column.buffer, column.byteOffset, column.byteLength))),
    ]),
  ),
);
process.stdout.write(
  `${vocabulary.begins.length - 1} tokens; ${tables.accepting.length} states, compiled in ${ms.toFixed(1)} ms; ` +
    `an answer of ${tokens.length} tokens\n`,
);
