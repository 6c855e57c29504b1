import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Device, type EmbeddedRows, Want } from '../../engine/device/device.js';
import { cpuInfo, openVisionEncoder } from '../../engine/device/native.js';
import { readCheckpoint } from '../../engine/model/checkpoint.js';
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
  /** Where the model reads images: the tiles of one, and the rows that they become. */
  readonly image?: { readonly pixels: Float32Array; readonly features: Float32Array };
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
    ...(tensors.has('pixel_values') && {
      image: {
        pixels: new Float32Array(bytesOf('pixel_values')),
        features: new Float32Array(bytesOf('image_features')),
      },
    }),
  };
}

/** The rows of a tile at each run of image tokens. */
function embeddedAt(
  prompt: readonly number[],
  imageToken: number,
  rows: Float32Array,
  hidden: number,
): EmbeddedRows[] {
  const runs: EmbeddedRows[] = [];
  let taken = 0;
  for (let begin = 0; begin < prompt.length; begin += 1) {
    if (prompt[begin] !== imageToken) continue;
    let end = begin;
    while (prompt[end] === imageToken) end += 1;
    runs.push({ position: begin, values: rows.slice(taken * hidden, (taken + end - begin) * hidden) });
    taken += end - begin;
    begin = end;
  }
  expect(taken * hidden).toBe(rows.length);
  return runs;
}

/** Logits at every position of the tokens: the first few as a prompt, the others one step each. */
async function logitsOf(
  device: Device,
  tokens: readonly number[],
  asPrompt: number,
  embedded?: readonly EmbeddedRows[],
): Promise<Float32Array[]> {
  device.openSlot(0, greedySlot, embedded);
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
      expect.arrayContaining([
        'llama',
        'llama3-rope',
        'llama-yarn',
        'mistral-window',
        'qwen2',
        'qwen3',
        'idefics3',
      ]),
    );
  });

  for (const { name } of families) {
    for (const isa of cpuInfo().isas) {
      it(`${name} (${isa})`, async () => {
        const { prompt, logits, greedy, image } = await readGolden(name);
        const vocab = logits.length / prompt.length;
        const device = await openModel(path.join(folder, name), {
          compute: { kind: 'cpu', cores: cpuInfo().cores, isa },
        });
        let embedded: EmbeddedRows[] | undefined;
        if (image) {
          const checkpoint = await readCheckpoint(path.join(folder, name));
          const { hidden, vision } = checkpoint.spec;
          const encoder = openVisionEncoder(checkpoint, { isa, checkFinite: true, threads: 1 });
          const tiles = image.pixels.length / (3 * vision!.imageSize ** 2);
          const rows = await encoder.encode(image.pixels, tiles);
          encoder.close();
          expect(rows).toHaveLength(tiles * vision!.tokensPerTile * hidden);
          expect(relativeError(rows, image.features), 'rows of the image').toBeLessThan(0.02);
          embedded = embeddedAt(prompt, vision!.imageTokenId, rows, hidden);
        }
        const asPrompt = 20;
        const ours = await logitsOf(device, [...prompt, ...greedy], asPrompt, embedded);
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
