import { readdirSync } from 'node:fs';
import path from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Settings } from '../../config/schema.js';
import {
  type CompiledGrammar,
  compileGrammar,
  type Engine,
  type GenerateRequest,
  type GrammarSource,
  InvalidGrammar,
  openEngine,
} from '../../engine/index.js';
import { openTokenizer } from '../../engine/model/tokenizer.js';
import { demoFolder } from '../support/demo.js';
import { generate, requestFor } from '../support/generate.js';
import { oneCore } from '../support/one-core.js';
import { promptsFirst } from '../support/prompts-first.js';
import { TableMatcher } from '../support/table-matcher.js';
import { haveSharedData, sharedJson, sharedPath, titled } from './model/shared-data.js';

const suite = 'json/JSON-Schema-Test-Suite/tests/draft2020-12';
const open = (engine: Partial<Settings['engine']> = {}): Promise<Engine> =>
  openEngine(
    Settings.parse({ model: { path: demoFolder }, engine: { ...oneCore, kvMemory: '256MiB', ...engine } }),
  );

let engine: Engine;
let prompt: Int32Array;
beforeAll(async () => {
  engine = await open();
  const tokenizer = await openTokenizer(demoFolder);
  const text = '<|bos|><|im_start|>user\nWrite JSON about Mira.<|im_end|>\n<|im_start|>assistant\n';
  prompt = tokenizer.encode(text, { special: true, addBos: false });
});
afterAll(() => engine.close());

const sampling = (seed: bigint, over: object = {}) => ({
  ...requestFor([0]).sampling,
  temperature: 1,
  seed,
  ...over,
});
const schemaOf = (schema: unknown): CompiledGrammar =>
  compileGrammar({ type: 'schema', schema, lenient: false });
const gbnf = (text: string): CompiledGrammar => compileGrammar({ type: 'gbnf', text });
const ask = (grammar: CompiledGrammar, over: Partial<GenerateRequest> = {}) =>
  requestFor(prompt, { grammar, maxTokens: 160, ...over });

const person = schemaOf({
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 12 },
    age: { type: 'integer', minimum: 1, maximum: 120 },
    tags: { type: 'array', items: { enum: ['a', 'b', 'c'] }, minItems: 1, maxItems: 3 },
  },
  required: ['name', 'age', 'tags'],
  additionalProperties: false,
});

interface Compiled {
  readonly name: string;
  readonly schema: unknown;
  readonly grammar: CompiledGrammar;
}

/** Of the test suite those that can be followed. */
function suiteSchemas(): Compiled[] {
  const files = readdirSync(sharedPath(suite), { recursive: true, encoding: 'utf8' });
  return files
    .filter((file) => file.endsWith('.json'))
    .flatMap((file) =>
      sharedJson<{ description: string; schema: unknown }[]>(path.join(suite, file)).flatMap(
        ({ description, schema }) => {
          try {
            return [{ name: `${file}: ${description}`, schema, grammar: schemaOf(schema) }];
          } catch (error) {
            if (error instanceof InvalidGrammar) return [];
            throw error;
          }
        },
      ),
    );
}

describe('answers that follow a grammar', () => {
  it.skipIf(!haveSharedData)(
    titled('are all valid, for every schema of the test suite that can be followed'),
    async () => {
      const ajv = new Ajv2020({ strict: false, validateFormats: false });
      const compiled = suiteSchemas();
      let ended = 0;
      let cut = 0;
      const check = async ({ name, schema, grammar }: Compiled, index: number): Promise<boolean> => {
        // Likely tokens alone, so that the small model comes to an end; then all of them.
        const { choices } = await generate(
          engine,
          ask(grammar, { n: 2, sampling: sampling(BigInt(index), { topP: index % 2 === 0 ? 0.8 : 1 }) }),
        );
        const {
          $id: _,
          $schema: __,
          ...anonymous
        } = typeof schema === 'object' ? (schema as Record<string, unknown>) : {};
        const validate = ajv.compile(typeof schema === 'boolean' ? schema : anonymous);
        for (const { text, reason } of choices) {
          const matcher = new TableMatcher(grammar.tables);
          expect([name, text, matcher.follow(text)]).toEqual([name, text, true]);
          if (reason === 'length') {
            cut++;
            continue;
          }
          ended++;
          expect([name, text, matcher.ended, validate(JSON.parse(text))]).toEqual([name, text, true, true]);
        }
        return choices.some(({ reason }) => reason === 'stop');
      };
      const schemas = compiled.slice(0, 140);
      for (let begin = 0; begin < schemas.length; begin += 12) {
        await Promise.all(schemas.slice(begin, begin + 12).map((one, i) => check(one, begin + i)));
      }
      expect(schemas.length).toBeGreaterThanOrEqual(100);
      expect(ended).toBeGreaterThan(3 * cut);
    },
  );

  it('are JSON objects', async () => {
    const grammar = compileGrammar({ type: 'json' });
    let ended = 0;
    for (let seed = 0n; seed < 6n; seed++) {
      const { choices } = await generate(
        engine,
        ask(grammar, { n: 4, maxTokens: 100, sampling: sampling(seed) }),
      );
      for (const { text, reason } of choices) {
        expect(new TableMatcher(grammar.tables).follow(text)).toBe(true);
        if (reason === 'stop') expect(JSON.parse(text)).toBeTypeOf('object');
        if (reason === 'stop') ended++;
      }
    }
    expect(ended).toBeGreaterThan(0);
  });

  it('never come to a dead end, however unlikely what was drawn', async () => {
    const grammars: GrammarSource[] = [
      { type: 'json' },
      { type: 'gbnf', text: 'root ::= ([^a-z] | "é" | "😀")+ "." root | "x"' },
      { type: 'gbnf', text: 'root ::= "{" root root "}" | [\\x00-\\x7f]' },
      { type: 'schema', schema: { type: 'string', pattern: '^([a-f]{2}-)+[0-9]{1,3}$' }, lenient: false },
    ];
    for (const source of grammars) {
      const grammar = compileGrammar(source);
      const request = ask(grammar, { n: 8, maxTokens: 60, sampling: sampling(5n, { temperature: 2 }) });
      const { choices } = await generate(engine, request);
      for (const { text, reason } of choices) {
        const matcher = new TableMatcher(grammar.tables);
        // The last token may have ended within a character.
        expect(matcher.follow(text.replace(/\uFFFD$/, ''))).toBe(true);
        if (reason === 'stop') expect(matcher.ended).toBe(true);
      }
    }
  });

  it('say why they ended: at the end of the grammar, or cut where the limit is', async () => {
    const whole = (await generate(engine, ask(person))).choices[0]!;
    expect(whole).toMatchObject({ reason: 'stop', stoppedBy: engine.info.eosTokenIds[0] });
    const cut = (await generate(engine, ask(person, { maxTokens: 5 }))).choices[0]!;
    expect(cut.reason).toBe('length');
    expect(whole.text.startsWith(cut.text)).toBe(true);
  });

  it('end where the grammar does, whatever is asked of their length', async () => {
    const yes = gbnf('root ::= "yes" | "no"');
    const { choices } = await generate(engine, ask(yes, { ignoreEos: true, minTokens: 40 }));
    expect(choices[0]).toMatchObject({ reason: 'stop', text: expect.stringMatching(/^(yes|no)$/) });
    const long = gbnf('root ::= "a"+');
    const { choices: longer } = await generate(engine, ask(long, { minTokens: 10, maxTokens: 12 }));
    expect(longer[0]!.tokens.length).toBeGreaterThan(9);
  });

  it('keep to stop strings, bias and penalties', async () => {
    const letters = gbnf('root ::= [a-d]+');
    const stopped = (await generate(engine, ask(letters, { stop: ['a'], sampling: sampling(3n) })))
      .choices[0]!;
    expect([stopped.reason, stopped.text.includes('a')]).toEqual(['stop', false]);
    const penalized = sampling(9n, { frequencyPenalty: 2, presencePenalty: 1, repetitionPenalty: 1.3 });
    const { text } = (await generate(engine, ask(person, { sampling: penalized }))).choices[0]!;
    expect(JSON.parse(text)).toMatchObject({ age: expect.any(Number) });
  });

  it('have logprobs of the unmodified distribution', async () => {
    const one = gbnf('root ::= "Z"');
    const { logprobs, tokens } = (await generate(engine, ask(one, { logprobs: 5, maxTokens: 1 })))
      .choices[0]!;
    const free = await generate(engine, requestFor(prompt, { logprobs: 5, maxTokens: 1 }));
    expect(logprobs[0]!.top).toEqual(free.choices[0]!.logprobs[0]!.top);
    expect(logprobs[0]!.logprob).toBeLessThan(logprobs[0]!.top[4]!.logprob);
    expect(free.choices[0]!.tokens).not.toEqual(tokens);
  });

  it('are the same bits alone, in a crowd, from the cache and behind a pre-emption', async () => {
    const subject = () => ask(person, { n: 2, sampling: sampling(42n), logprobs: 0, maxTokens: 100 });
    const alone = await generate(engine, subject());
    const again = await generate(engine, subject());
    expect(again.choices).toEqual(alone.choices);
    for (const swapMemory of [0, 1 << 30]) {
      const small = await open({ ...promptsFirst, kvMemory: 1 << 20, swapMemory, maxSequences: 8 });
      const crowd = Array.from({ length: 12 }, (_, i) =>
        ask(person, { sampling: sampling(BigInt(i)), maxTokens: 80 }),
      );
      const rivals = Array.from({ length: 4 }, () => requestFor(prompt, { maxTokens: 120, ignoreEos: true }));
      const [mine] = await Promise.all([
        generate(small, subject()),
        ...[...crowd, ...rivals].map((one) => generate(small, one)),
      ]);
      expect(mine!.choices).toEqual(alone.choices);
      expect((await small.stats()).preemptions).toBeGreaterThan(0);
      await small.close();
    }
  });

  it('leave nothing open when they are cancelled, and go on when others share their grammar', async () => {
    const cancelled = ask(person, { maxTokens: 100 });
    engine.submit(cancelled, () => undefined);
    engine.cancel(cancelled.id);
    // More grammars than stay open while nobody follows them.
    for (let i = 0; i < 20; i++) {
      const { choices } = await generate(engine, ask(gbnf(`root ::= "${i}"`)));
      expect(choices[0]!.text).toBe(String(i));
    }
    expect((await generate(engine, ask(person))).choices[0]!.reason).toBe('stop');
    await expect.poll(() => engine.stats()).toMatchObject({ running: 0, slotsOpen: 0 });
  });
});
