import { describe, expect, it } from 'vitest';
import { SseParser } from '../../loadtest/serve/sse-parser.js';
import fc from '../support/fast-check.js';

function parse(...pieces: readonly (string | Uint8Array)[]): string[] {
  const parser = new SseParser();
  return pieces.flatMap((piece) => parser.push(Buffer.from(piece as string)));
}

describe('SSE parser', () => {
  it('gives the data of each event', () => {
    expect(parse('data: {"a":1}\n\ndata: [DONE]\n\n')).toEqual(['{"a":1}', '[DONE]']);
  });

  it('joins the lines of an event, and takes one space from each', () => {
    expect(parse('data:a\ndata:  b\ndata:\n\n')).toEqual(['a\n b\n']);
  });

  it('drops comments, other fields and events without data', () => {
    expect(parse(': ping\n\nevent: x\nid: 7\ndata: a\nretry: 1\n\nevent: y\n\n')).toEqual(['a']);
  });

  it('gives an event only when it is whole', () => {
    expect(parse('data: a\n')).toEqual([]);
    expect(parse('data: a\n', '\n')).toEqual(['a']);
  });

  it.each(['\n', '\r\n', '\r'])('ends lines at %j', (end) => {
    expect(parse(`data: a${end}data: b${end}${end}data: c${end}${end}`)).toEqual(['a\nb', 'c']);
  });

  it('gives the same events however the bytes are cut', () => {
    const data = fc.string({ unit: 'grapheme', maxLength: 12 }).map((text) => text.replace(/[\r\n]/g, ' '));
    const event = fc.record({
      lines: fc.array(data, { minLength: 1, maxLength: 3 }),
      comment: fc.boolean(),
      end: fc.constantFrom('\n', '\r\n', '\r'),
    });
    const stream = fc.record({
      events: fc.array(event, { maxLength: 6 }),
      cuts: fc.array(fc.nat({ max: 400 }), { maxLength: 40 }),
    });
    fc.assert(
      fc.property(stream, ({ events, cuts }) => {
        const text = events.map(({ lines, comment, end }) => {
          const fields = lines.map((line) => `data: ${line}${end}`).join('');
          return `${comment ? `: ping${end}` : ''}${fields}${end}`;
        });
        const bytes = Buffer.from(text.join(''));
        const borders = [0, ...cuts.filter((cut) => cut < bytes.length).sort((a, b) => a - b), bytes.length];
        const pieces = borders.slice(1).map((border, index) => bytes.subarray(borders[index], border));
        expect(parse(...pieces)).toEqual(events.map(({ lines }) => lines.join('\n')));
      }),
      { seed: 1, numRuns: 500 },
    );
  });
});
