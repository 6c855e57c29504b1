import { describe, expect, it } from 'vitest';
import { Random } from '../../../loadtest/random.js';
import { ToldFacts } from '../../../loadtest/sessions/told-facts.js';

const words = (text: string) => text.trim().split(' ').length;

describe('facts that a session was told', () => {
  const told = new ToldFacts(new Random(3), words, 400);
  const texts: string[] = [];
  let tokens = 0;
  for (let turn = 0; turn < 40; turn++) {
    const text = told.write(tokens, 60);
    texts.push(text);
    tokens += words(text);
  }
  const all = texts.join(' ');

  it('stand where they are said to, and are the last that was told of their subject', () => {
    for (const distance of [100, 200, 300]) {
      const fact = told.at(tokens, distance)!;
      expect(Math.abs(tokens - fact.position - distance)).toBeLessThanOrEqual(distance / 4);
      const behind = all.split(' ').slice(0, fact.position).join(' ');
      expect(behind.endsWith(fact.sentence)).toBe(true);
      expect(all.lastIndexOf(fact.sentence)).toBe(behind.length - fact.sentence.length);
    }
  });

  it('never contradict the first one', () => {
    const first = told.first!;
    const [begin] = first.sentence.split(first.value);
    const others = all.split(/(?<=\.) /).filter((sentence) => sentence.startsWith(begin!));
    expect(begin!.length).toBeGreaterThan(5);
    expect(new Set(others)).toEqual(new Set([first.sentence]));
  });

  it('are none where nothing was told so far back', () => {
    expect(told.at(tokens, 10 * tokens)).toBeUndefined();
  });
});
