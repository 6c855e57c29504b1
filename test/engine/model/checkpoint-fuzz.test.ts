import { describe, expect, it } from 'vitest';
import { EngineError } from '../../../engine/index.js';
import { modelSpec } from '../../../engine/model/config.js';
import { headerLength, parseSafetensorsHeader } from '../../../engine/model/safetensors.js';
import fc from '../../support/fast-check.js';
import { headerOf, safetensorsFile, tinyConfig } from './model-folder.js';

/** Runs the reader on hostile input: it answers or refuses in its own words. True if it answered. */
function survives(work: () => unknown): boolean {
  try {
    work();
    return true;
  } catch (error) {
    expect(error).toBeInstanceOf(EngineError);
    expect((error as EngineError).code).toBe('model_invalid');
    expect((error as EngineError).message.length).toBeLessThan(2000);
    return false;
  }
}

function readBytes(file: Buffer) {
  const length = headerLength('f', file.subarray(0, 8), file.length);
  return parseSafetensorsHeader('f', file.subarray(8, 8 + length), file.length);
}

const oddNumber = fc.oneof(
  fc.integer({ min: -3, max: 40 }),
  fc.constantFrom(2 ** 31, 2 ** 32, 2 ** 53, 2 ** 53 - 1, 2 ** 63, 1e308, 0.5, -0),
);
const oddValue = fc.oneof(
  oddNumber,
  fc.string(),
  fc.boolean(),
  fc.constant(null),
  fc.array(oddNumber),
  fc.object(),
);

describe('fuzzed safetensors', () => {
  const good = headerOf([
    ['a', [2, 3]],
    ['b', [4]],
    ['c', [1, 1]],
  ]);
  const file = safetensorsFile(good.header, good.dataBytes);

  it('survives changed, cut and added bytes, and never gives a range outside the file', () => {
    const edit = fc.record({ at: fc.nat(file.length - 1), byte: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(edit, { maxLength: 6 }), fc.integer({ min: -40, max: 8 }), (edits, grown) => {
        const bytes = Buffer.concat([file, Buffer.alloc(8)]).subarray(0, file.length + grown);
        for (const { at, byte } of edits) if (at < bytes.length) bytes[at] = byte;
        survives(() => {
          for (const tensor of readBytes(bytes)) {
            expect(tensor.begin).toBeGreaterThanOrEqual(8);
            expect(tensor.end).toBeLessThanOrEqual(bytes.length);
            expect(tensor.begin).toBeLessThanOrEqual(tensor.end);
          }
        });
      }),
      { numRuns: 4000 },
    );
  });

  it('survives headers with odd values, and answers only for tensors that fill the data without overlap', () => {
    const entry = fc.record(
      {
        dtype: fc.oneof({ weight: 4, arbitrary: fc.constantFrom('BF16', 'F32', 'I64', 'F4') }, oddValue),
        shape: fc.oneof({ weight: 4, arbitrary: fc.array(fc.nat(4), { maxLength: 3 }) }, oddValue),
        data_offsets: fc.oneof({ weight: 4, arbitrary: fc.tuple(fc.nat(20), fc.nat(20)) }, oddValue),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(
        fc.dictionary(fc.string(), fc.oneof({ weight: 8, arbitrary: entry }, oddValue)),
        fc.nat(40),
        (header, dataBytes) => {
          survives(() => {
            const bytes = safetensorsFile(header, dataBytes);
            const tensors = readBytes(bytes);
            const sum = tensors.reduce((total, tensor) => total + tensor.end - tensor.begin, 0);
            expect(sum).toBe(dataBytes);
          });
        },
      ),
      { numRuns: 4000 },
    );
  });

  it('survives bytes that are no safetensors at all', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        survives(() => readBytes(Buffer.from(bytes)));
      }),
      { numRuns: 2000 },
    );
  });
});

describe('fuzzed configs', () => {
  const keys = [
    ...Object.keys(tinyConfig),
    'head_dim',
    'rope_scaling',
    'rope_parameters',
    'sliding_window',
    'use_sliding_window',
    'max_window_layers',
    'layer_types',
    'hidden_act',
    'attention_bias',
    '__proto__',
  ];
  const rope = fc.record(
    {
      rope_type: fc.constantFrom('default', 'linear', 'llama3', 'yarn', 'dynamic'),
      factor: oddValue,
      rope_theta: oddValue,
      low_freq_factor: oddValue,
      high_freq_factor: oddValue,
      original_max_position_embeddings: oddValue,
      beta_fast: oddValue,
      attention_factor: oddValue,
    },
    { requiredKeys: ['rope_type'] },
  );

  it('survives odd values, and answers only with a whole description', () => {
    let answered = 0;
    fc.assert(
      fc.property(
        fc.constantFrom('llama', 'mistral', 'qwen2', 'qwen3'),
        fc.array(fc.tuple(fc.constantFrom(...keys), fc.oneof(oddValue, rope)), { maxLength: 4 }),
        (model_type, changes) => {
          const config = { ...tinyConfig, architectures: null, model_type, ...Object.fromEntries(changes) };
          const ok = survives(() => {
            const spec = modelSpec('config.json', config);
            expect(spec.slidingWindow).toHaveLength(spec.layers);
            expect(spec.rope.inverseFrequencies).toHaveLength(spec.headDim / 2);
            expect(spec.heads % spec.kvHeads).toBe(0);
            for (const value of [spec.layers, spec.hidden, spec.ffn, spec.vocab, spec.contextLength]) {
              expect(Number.isSafeInteger(value) && value > 0).toBe(true);
            }
            for (const frequency of spec.rope.inverseFrequencies)
              expect(Number.isFinite(frequency)).toBe(true);
            expect(Number.isFinite(spec.rope.attentionFactor)).toBe(true);
          });
          if (ok) answered++;
        },
      ),
      { numRuns: 5000 },
    );
    expect(answered).toBeGreaterThan(100);
  });

  it('survives JSON of any form', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        survives(() => modelSpec('config.json', value));
      }),
      { numRuns: 2000 },
    );
  });
});
