import { afterEach, describe, expect, it } from 'vitest';
import type { GrammarSource } from '../../../engine/index.js';
import { type CompilerLimits, GrammarCompiler } from '../../../server/grammar/grammar-compiler.js';
import { accepts } from '../../support/table-matcher.js';
import { threads } from '../../support/threads.js';

const open: GrammarCompiler[] = [];
afterEach(async () => {
  for (const compiler of open.splice(0)) await compiler.close();
});

function compilerWith(limits: Partial<CompilerLimits> = {}): GrammarCompiler {
  const compiler = new GrammarCompiler(limits);
  open.push(compiler);
  return compiler;
}

const gbnf = (text: string): GrammarSource => ({ type: 'gbnf', text, param: 'grammar' });
/** Takes far longer than the limits here. */
const endless = gbnf(`root ::= (${'("a" | "b" | [a-c]){500} | '.repeat(40)} "x"){4}`);
/** Not for the thread of small ones. */
const large = gbnf('root ::= (("a" | "b" | "c"){0,1000} "x"){4}');

describe('the compiler of grammars', () => {
  it('compiles in a thread, once for all that ask the same', async () => {
    const compiler = compilerWith();
    const asked = [gbnf('root ::= "a"'), gbnf('root ::= "a"'), gbnf('root ::= "b"')];
    const [a, same, b] = await Promise.all(asked.map((source) => compiler.compile(source)));
    expect(same).toBe(a);
    expect(await compiler.compile(asked[0]!)).toBe(a);
    expect([a, b].map((one) => accepts(one!.tables, 'b'))).toEqual([false, true]);
    expect(compiler.size).toBe(2);
  });

  it.runIf(process.platform === 'linux')(
    'has another thread for large ones, which goes behind the others',
    async () => {
      const compiler = compilerWith();
      const low = () => threads().filter(({ nice }) => nice > 0);
      await compiler.compile(gbnf('root ::= "a"'));
      expect(low()).toEqual([]);
      const { tables } = await compiler.compile(large);
      expect(['abxcxxx', 'abxc'].map((text) => accepts(tables, text))).toEqual([true, false]);
      expect(low()).toEqual([{ nice: 10, isIdle: false }]);
    },
  );

  it('lets small ones pass one that is large', async () => {
    const compiler = compilerWith();
    const done: string[] = [];
    const asked = { large, small: gbnf('root ::= "a"'), other: gbnf('root ::= "b"') };
    await Promise.all(
      Object.entries(asked).map(async ([name, source]) => {
        await compiler.compile(source);
        done.push(name);
      }),
    );
    expect(done).toEqual(['small', 'other', 'large']);
  });

  it('keeps the last ones, up to a number of bytes', async () => {
    const compiler = compilerWith({ cacheBytes: 2000 });
    const first = await compiler.compile(gbnf('root ::= "0"'));
    for (let i = 1; i < 20; i++) await compiler.compile(gbnf(`root ::= "${i}"`));
    expect(compiler.size).toBeLessThan(10);
    expect(await compiler.compile(gbnf('root ::= "0"'))).not.toBe(first);
  });

  it('says what is wrong, and where it came from', async () => {
    const compiler = compilerWith();
    await expect(compiler.compile(gbnf('root ::= x'))).rejects.toMatchObject({
      status: 400,
      message: "Invalid 'grammar': there is no rule 'x'.",
      details: { param: 'grammar', code: 'invalid_grammar' },
    });
    const schema: GrammarSource = {
      type: 'schema',
      schema: { type: 'x' },
      lenient: false,
      param: 'response_format.json_schema.schema',
    };
    await expect(compiler.compile(schema)).rejects.toMatchObject({
      details: { param: 'response_format.json_schema.schema.type' },
    });
  });

  it('refuses what is too large, and goes on with the next', async () => {
    const short = compilerWith({ timeMs: 1 });
    await expect(short.compile(endless)).rejects.toMatchObject({ details: { code: 'grammar_too_large' } });
    const poor = compilerWith({ memoryMb: 16 });
    await expect(poor.compile(endless)).rejects.toMatchObject({ details: { code: 'grammar_too_large' } });
    expect(accepts((await poor.compile(gbnf('root ::= "a"'))).tables, 'a')).toBe(true);
  });

  it.each<[string, Partial<CompilerLimits>]>([
    ['late', { timeMs: 300 }],
    ['large', { memoryMb: 16 }],
  ])('does not refuse what waits behind what is too %s', async (_, limits) => {
    const compiler = compilerWith(limits);
    await compiler.compile(gbnf('root ::= "begin"')); // the thread's start takes time too
    const small = ['a', 'b'].map((text) => gbnf(`root ::= "${text}"`));
    const [first, refused, ...others] = await Promise.allSettled(
      [small[0]!, endless, small[1]!, gbnf('root ::= x'), gbnf('root ::= "c"')].map((source) =>
        compiler.compile(source),
      ),
    );
    expect(first!.status).toBe('fulfilled');
    expect(refused).toMatchObject({ reason: { details: { code: 'grammar_too_large' } } });
    expect(others).toMatchObject([
      { status: 'fulfilled' },
      { reason: { details: { code: 'invalid_grammar' } } },
      { status: 'fulfilled' },
    ]);
  });

  it('does not begin what nobody waits for any more when its turn comes', async () => {
    const compiler = compilerWith({ timeMs: 300 });
    const ask = (i: number, waitedFor?: AbortSignal) =>
      compiler.compile(gbnf(`root ::= (${'("a" | "b" | [a-c]){500} | '.repeat(40)} "${i}"){4}`), waitedFor);
    const left = new AbortController();
    const begun = ask(0);
    const abandoned = [ask(2, left.signal), ask(3, left.signal)];
    const shared = [ask(4, left.signal), ask(4)];
    left.abort();
    const again = ask(2);
    await expect(ask(5, left.signal)).rejects.toMatchObject({ name: 'AbortError' });
    const outcomes = await Promise.allSettled([begun, ...abandoned, ...shared, again]);
    const codes = outcomes.map((outcome) =>
      outcome.status === 'rejected' ? (outcome.reason.details.code ?? outcome.reason.type) : 'compiled',
    );
    const tooLarge = 'grammar_too_large';
    expect(codes).toEqual([tooLarge, 'client_left', 'client_left', tooLarge, tooLarge, tooLarge]);
  });
});
