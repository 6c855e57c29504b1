import { EngineError } from '../../engine/errors.js';
import type { Tokenizer, VisionSpec } from '../../engine/index.js';
import { type TileGrid, tileCount } from './tiles.js';

const fakeToken = '<fake_token_around_image>';
const wholeToken = '<global-img>';
const partToken = /<row_\d+_col_\d+>/;

/** An image's tokens, and where among them those of each of its tiles begin. */
export interface ImageTokens {
  readonly tokens: Int32Array;
  /** [tiles] */
  readonly tiles: Int32Array;
}

/** What stands for images in a prompt, as Idefics3 writes it (transformers, processing_idefics3.py). */
export class ImageMarkup {
  readonly imageToken: string;
  /** A `<` that begins any of it. */
  readonly #begins: RegExp;
  readonly #byGrid = new Map<string, ImageTokens>();

  /** Throws `EngineError('model_invalid')` where the tokenizer has no such token. */
  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly vision: VisionSpec,
  ) {
    const { imageTokenId } = vision;
    this.imageToken = tokenizer.decode([imageTokenId], { skipSpecial: false });
    const ids = this.#encode(this.imageToken);
    if (ids.length !== 1 || ids[0] !== imageTokenId) {
      throw new EngineError(
        'model_invalid',
        `The tokenizer does not know token ${imageTokenId}, image_token_id of config.json, by what it decodes to.`,
      );
    }
    const rests = [this.imageToken, fakeToken, wholeToken].map((token) =>
      token.slice(1).replace(/[^\w<>]/g, '\\$&'),
    );
    this.#begins = new RegExp(`<(?=${[...rests, partToken.source.slice(1)].join('|')})`, 'g');
  }

  /** The text, with `mark` behind each `<` that would make it stand for an image. */
  escape(text: string, mark: string): string {
    return text.replaceAll(this.#begins, `<${mark}`);
  }

  /** Where in a prompt images are to go: one token for each. */
  positionsIn(prompt: Int32Array): number[] {
    const positions: number[] = [];
    prompt.forEach((token, position) => {
      if (token === this.vision.imageTokenId) positions.push(position);
    });
    return positions;
  }

  /** Of an image that was cut like this. */
  tokensOf(grid: TileGrid): ImageTokens {
    const key = `${grid.rows}x${grid.columns}`;
    let found = this.#byGrid.get(key);
    if (!found) {
      found = this.#tokenize(grid);
      this.#byGrid.set(key, found);
    }
    return found;
  }

  #tokenize(grid: TileGrid): ImageTokens {
    const tokens = this.#encode(this.#textOf(grid));
    const { tokensPerTile } = this.vision;
    const all = this.positionsIn(tokens);
    const tiles = Int32Array.from({ length: tileCount(grid) }, (_, tile) => all[tile * tokensPerTile] ?? -1);
    if (all.length !== tiles.length * tokensPerTile)
      throw new Error('the tokens of an image cannot be found');
    return { tokens, tiles };
  }

  #textOf({ rows, columns }: TileGrid): string {
    const tile = this.imageToken.repeat(this.vision.tokensPerTile);
    let text = '';
    for (let row = 1; row <= rows; row++) {
      for (let column = 1; column <= columns; column++) {
        text += `${fakeToken}<row_${row}_col_${column}>${tile}`;
      }
      text += '\n';
    }
    const whole = `${fakeToken}${wholeToken}${tile}${fakeToken}`;
    return rows > 0 ? `${text}\n${whole}` : whole;
  }

  #encode(text: string): Int32Array {
    return this.tokenizer.encode(text, { special: true, addBos: false });
  }
}
