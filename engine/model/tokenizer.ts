import { EngineError } from '../errors.js';
import { Detokenizer } from './detokenizer.js';
import { IdSink, TooManyIds } from './id-sink.js';
import { wellFormed } from './normalizer.js';
import { type Surroundings, surroundings } from './post-processor.js';
import type { EncodeOptions, Tokenizer } from './text.js';
import { openBpeEncoder, type PlainEncoder } from './text-encoder.js';
import { readTokenizerFiles, type TokenizerFiles } from './tokenizer-files.js';
import { readVocabulary } from './vocabulary.js';

/** Up to so many context lengths a text that is too long is told by how much. */
const countedContexts = 4;

/**
 * The tokenizer of a model folder, from `tokenizer.json` and `tokenizer_config.json`. BPE of the usual kinds takes our
 * own way; others take @huggingface/tokenizers. Throws `EngineError('model_invalid')`.
 */
export async function openTokenizer(folder: string): Promise<Tokenizer> {
  return makeTokenizer(await readTokenizerFiles(folder));
}

async function makeTokenizer(files: TokenizerFiles): Promise<Tokenizer> {
  const vocabulary = readVocabulary(files);
  const addedIds = new Map(files.addedTokens.map((token) => [token.content, token.id]));
  return new TextTokenizer(
    openBpeEncoder(files, vocabulary) ?? (await openLibraryEncoder(files)),
    new Detokenizer(files, vocabulary),
    surroundings(files, (content) => addedIds.get(content) ?? vocabulary.index.get(content)),
  );
}

/** Few models need the library, so that it is loaded for these alone. */
async function openLibraryEncoder(files: TokenizerFiles): Promise<PlainEncoder> {
  const { LibraryEncoder } = await import('./library-encoder.js');
  return new LibraryEncoder(files);
}

class TextTokenizer implements Tokenizer {
  constructor(
    private readonly encoder: PlainEncoder,
    private readonly detokenizer: Detokenizer,
    private readonly around: Surroundings,
  ) {}

  get vocabSize(): number {
    return this.detokenizer.vocabSize;
  }

  encode(
    text: string,
    { special, addBos, contextLength = Number.POSITIVE_INFINITY }: EncodeOptions,
  ): Int32Array {
    const out = new IdSink(countedContexts * contextLength);
    if (addBos) for (const id of this.around.before) out.push(id);
    try {
      this.encoder.encode(wellFormed(text), special, out);
    } catch (error) {
      throw encodingFault(error, text, contextLength);
    }
    if (addBos) for (const id of this.around.after) out.push(id);
    return out.take();
  }

  decode(ids: ArrayLike<number>, options: { skipSpecial: boolean }): string {
    return this.detokenizer.decode(ids, options.skipSpecial);
  }

  tokenBytes(id: number): Uint8Array {
    return this.detokenizer.tokenBytes(id);
  }

  isSpecial(id: number): boolean {
    return this.detokenizer.isSpecial(id);
  }

  stream(shown?: ReadonlySet<number> | 'all', behind?: Iterable<number> | 'text') {
    return this.detokenizer.stream(shown, behind);
  }
}

function encodingFault(error: unknown, text: string, contextLength: number): unknown {
  if (error instanceof TooManyIds) {
    return new EngineError(
      'context_length_exceeded',
      `This model's context length is ${contextLength} tokens, but the prompt has more than ` +
        `${countedContexts * contextLength}. Shorten the prompt.`,
      { part: 'prompt' },
    );
  }
  // Regular expressions run out of stack in a single word of millions of characters.
  if (error instanceof RangeError) {
    return new EngineError(
      'invalid_request',
      `a text of ${text.length} characters cannot be tokenized: it has a word that is too long`,
    );
  }
  return error;
}
