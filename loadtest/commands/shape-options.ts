import type { Command } from 'commander';
import { llama1b, type ModelShape } from '../random-model/model-shape.js';
import { wholeNumber } from './arguments.js';

type ShapeOptions = Pick<ModelShape, 'layers' | 'hidden' | 'heads' | 'kvHeads' | 'headDim' | 'ffn' | 'vocab'>;

/** Adds a flag for each size of the random model; the defaults are Llama-3.2-1B's. */
export function addShapeOptions(command: Command): Command {
  const size = (flag: string, description: string, value: number) =>
    command.option(`${flag} <n>`, description, wholeNumber(1), value);
  size('--layers', 'layers of the random model', llama1b.layers);
  size('--hidden', 'its width', llama1b.hidden);
  size('--heads', 'its query heads', llama1b.heads);
  size('--kv-heads', 'its key and value heads', llama1b.kvHeads);
  size('--head-dim', 'width of a head', llama1b.headDim);
  size('--ffn', 'width of its feed-forward network', llama1b.ffn);
  return size('--vocab', 'size of its vocabulary', llama1b.vocab);
}

export function shapeFrom(options: ShapeOptions): ModelShape {
  const { layers, hidden, heads, kvHeads, headDim, ffn, vocab } = options;
  return { ...llama1b, layers, hidden, heads, kvHeads, headDim, ffn, vocab };
}

/** A folder's name for a shape, so that each shape is made once. */
export function shapeName(shape: ModelShape): string {
  const { layers, hidden, heads, kvHeads, headDim, ffn, vocab } = shape;
  return `random-${layers}x${hidden}-h${heads}-${kvHeads}x${headDim}-f${ffn}-v${vocab}`;
}
