import { type Command, Option } from 'commander';
import { type ModelShape, shapes } from '../random-model/model-shape.js';
import { wholeNumber } from './arguments.js';

type Sizes = Pick<ModelShape, 'layers' | 'hidden' | 'heads' | 'kvHeads' | 'headDim' | 'ffn' | 'vocab'>;

export interface ShapeOptions extends Partial<Sizes> {
  shape: keyof typeof shapes;
}

/** Adds a flag for the shape of the random model, and one for each of its sizes. */
export function addShapeOptions(command: Command): Command {
  command.addOption(
    new Option(
      '--shape <name>',
      "of the random model: 1b is Llama-3.2-1B's, 8b Llama-3.1-8B's, smolvlm-256m SmolVLM's, which reads images; " +
        'the flags below change it',
    )
      .choices(Object.keys(shapes))
      .default('1b'),
  );
  const size = (flag: string, description: string) =>
    command.option(`${flag} <n>`, description, wholeNumber(1));
  size('--layers', 'layers of the random model');
  size('--hidden', 'its width');
  size('--heads', 'its query heads');
  size('--kv-heads', 'its key and value heads');
  size('--head-dim', 'width of a head');
  size('--ffn', 'width of its feed-forward network');
  return size('--vocab', 'size of its vocabulary');
}

export function shapeFrom(options: ShapeOptions): ModelShape {
  const { layers, hidden, heads, kvHeads, headDim, ffn, vocab } = { ...shapes[options.shape], ...options };
  return { ...shapes[options.shape], layers, hidden, heads, kvHeads, headDim, ffn, vocab };
}

/** A folder's name for a shape, so that each shape is made once. */
export function shapeName(shape: ModelShape): string {
  const { layers, hidden, heads, kvHeads, headDim, ffn, vocab, tiedEmbeddings, vision } = shape;
  const sizes = `random-${layers}x${hidden}-h${heads}-${kvHeads}x${headDim}-f${ffn}-v${vocab}`;
  return `${sizes}${tiedEmbeddings ? '' : '-untied'}${vision ? `-images${vision.imageSize}` : ''}`;
}
