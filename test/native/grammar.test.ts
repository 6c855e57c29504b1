import { describe, expect, it } from 'vitest';
import { type Device, type SlotSampling, Want } from '../../engine/device/device.js';
import { compileGrammar } from '../../engine/grammar/compile.js';
import { vocabularyBytes } from '../../engine/grammar/vocabulary-bytes.js';
import { openTokenizer } from '../../engine/model/tokenizer.js';
import { demoFolder, goldenCases, greedySlot } from '../support/demo.js';
import { openDemo, step } from '../support/device.js';

const prompt = goldenCases()[0]!.prompt_ids;
const end = 3; // <|im_end|>
const { tables } = compileGrammar({ type: 'gbnf', text: 'root ::= "7" [0-9]{5} "!"' });

async function openWithVocabulary(): Promise<Device> {
  const device = await openDemo();
  device.setVocabulary(vocabularyBytes(await openTokenizer(demoFolder), [end]));
  return device;
}

/** Opens a slot, reads prompt and what was generated, and goes on to `count` tokens. */
async function generate(device: Device, grammar: number, generated: readonly number[], count: number) {
  const sampling: SlotSampling = {
    ...greedySlot,
    generatedTokens: Int32Array.from(generated),
    grammar: { handle: grammar, shownTokens: new Int32Array() },
  };
  device.openSlot(0, sampling);
  device.kv.reserve(0, prompt.length + 16);
  device.partition(device.info.units);
  const tokens = [...generated];
  tokens.push((await step(device.prefill, 0, [...prompt, ...generated], Want.sample)).tokens[0]!);
  device.partition(0);
  while (tokens.length < count) tokens.push((await step(device.decode, 0, [], Want.sample)).tokens[0]!);
  device.closeSlot(0);
  return tokens;
}

describe('a slot with a grammar', () => {
  it('samples what the grammar allows, and after a pre-emption goes on where it was', async () => {
    const device = await openWithVocabulary();
    const grammar = device.openGrammar(tables);
    const tokens = await generate(device, grammar, [], 8);
    const tokenizer = await openTokenizer(demoFolder);
    expect(tokenizer.decode(tokens, { skipSpecial: true })).toMatch(/^7\d{5}!$/);
    expect(tokens.at(-1)).toBe(end);
    expect(await generate(device, grammar, tokens.slice(0, 4), 8)).toEqual(tokens);
  });

  it('keeps its grammar while others close it', async () => {
    const device = await openWithVocabulary();
    const grammar = device.openGrammar(tables);
    device.openSlot(1, { ...greedySlot, grammar: { handle: grammar, shownTokens: new Int32Array() } });
    device.closeGrammar(grammar);
    device.kv.reserve(1, prompt.length + 1);
    device.partition(device.info.units);
    const { tokens } = await step(device.prefill, 1, prompt, Want.sample);
    expect((await openTokenizer(demoFolder)).decode(tokens, { skipSpecial: true })).toBe('7');
    expect(() => device.closeGrammar(grammar)).toThrow(`there is no grammar ${grammar}`);
  });

  it('is refused where something is missing or does not fit', async () => {
    const device = await openDemo();
    expect(() => device.openGrammar(tables)).toThrow('needs the vocabulary');
    device.setVocabulary(vocabularyBytes(await openTokenizer(demoFolder), []));
    expect(() => device.openGrammar(tables)).toThrow('no token that ends an answer');
    device.setVocabulary(vocabularyBytes(await openTokenizer(demoFolder), [end]));
    expect(() => device.openGrammar({ ...tables, ruleStarts: Int32Array.of(1 << 20) })).toThrow(
      'rules name state',
    );
    const grammar = { handle: 99, shownTokens: new Int32Array() };
    expect(() => device.openSlot(0, { ...greedySlot, grammar })).toThrow('there is no grammar 99');
    const handle = device.openGrammar(tables);
    const generated = { ...greedySlot, generatedTokens: Int32Array.of(end) };
    expect(() => device.openSlot(0, { ...generated, grammar: { ...grammar, handle } })).toThrow(
      `token ${end} is not what the grammar allows`,
    );
  });
});
