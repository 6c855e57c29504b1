import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Device, Want } from '../../engine/device/device.js';
import { cpuInfo } from '../../engine/device/native.js';
import { readSafetensorsHeader } from '../../engine/model/safetensors.js';
import { greedySlot, root } from '../support/demo.js';
import { openModel, step } from '../support/device.js';

const folder = path.join(root, 'test/fixtures/golden');
const families = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());

interface Golden {
  readonly prompt: readonly number[];
  /** [prompt, vocab], by transformers in float32 from the bf16 weights. */
  readonly logits: Float32Array;
  /** The tokens that follow. */
  readonly greedy: readonly number[];
}

async function readGolden(family: string): Promise<Golden> {
  const file = path.join(folder, family, 'golden.safetensors');
  const bytes = readFileSync(file);
  const tensors = new Map((await readSafetensorsHeader(file)).map((tensor) => [tensor.name, tensor]));
  const bytesOf = (name: string) => {
    const { begin, end } = tensors.get(name)!;
    return new Uint8Array(bytes.subarray(begin, end)).buffer;
  };
  return {
    prompt: [...new Int32Array(bytesOf('input_ids'))],
    logits: new Float32Array(bytesOf('logits')),
    greedy: [...new Int32Array(bytesOf('greedy'))],
  };
}

/** Logits at every position of the tokens: the first few as a prompt, the others one step each. */
async function logitsOf(
  device: Device,
  tokens: readonly number[],
  asPrompt: number,
): Promise<Float32Array[]> {
  device.openSlot(0, greedySlot);
  expect(device.kv.reserve(0, tokens.length)).toBe(true);
  device.partition(device.info.units);
  const logits: Float32Array[] = [];
  for (let begin = 0; begin < tokens.length; begin += begin === 0 ? asPrompt : 1) {
    const next = tokens.slice(begin, begin === 0 ? asPrompt : begin + 1);
    logits.push((await step(device.prefill, 0, next, Want.logits)).logits.get(0)!);
  }
  device.closeSlot(0);
  return logits;
}

/** ||a - b|| / ||b|| */
function relativeError(a: Float32Array, b: Float32Array): number {
  let difference = 0;
  let norm = 0;
  for (const [i, value] of b.entries()) {
    difference += (a[i]! - value) ** 2;
    norm += value ** 2;
  }
  return Math.sqrt(difference / norm);
}

describe('logits against transformers', () => {
  it('has a checkpoint of every family', () => {
    expect(families.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['llama', 'llama3-rope', 'llama-yarn', 'mistral-window', 'qwen2', 'qwen3']),
    );
  });

  for (const { name } of families) {
    for (const isa of cpuInfo().isas) {
      it(`${name} (${isa})`, async () => {
        const { prompt, logits, greedy } = await readGolden(name);
        const vocab = logits.length / prompt.length;
        const device = await openModel(path.join(folder, name), {
          compute: { kind: 'cpu', cores: cpuInfo().cores, isa },
        });
        const asPrompt = 20;
        const ours = await logitsOf(device, [...prompt, ...greedy], asPrompt);
        for (const [i, row] of ours.slice(0, prompt.length - asPrompt + 1).entries()) {
          const position = asPrompt - 1 + i;
          const expected = logits.subarray(position * vocab, (position + 1) * vocab);
          expect(relativeError(row, expected), `position ${position}`).toBeLessThan(0.02);
        }
        // Behind the prompt only the choices are known. Where the best two are as close as bf16 rounds, either may win.
        for (const [i, token] of greedy.entries()) {
          const row = ours[prompt.length - asPrompt + i]!;
          const spread = Math.max(...row.map(Math.abs));
          expect(Math.max(...row) - row[token]!, `greedy token ${i}`).toBeLessThan(0.02 * spread);
        }
      });
    }
  }
});
