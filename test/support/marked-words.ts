import { readFileSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { Folder } from '../scripts/support.js';
import { demoFolder } from './demo.js';

/** ` world`, a token of `modelOfMarkedWords`. */
export const world = 300;

const vocabSize = 2048;

/** The demo model, with a tokenizer that begins texts with a space, and drops it, as that of Llama 2 does. */
export function modelOfMarkedWords(): Folder {
  const bytes = Array.from({ length: 256 }, (_, byte) => byte.toString(16).toUpperCase().padStart(2, '0'));
  const special = ['<unk>', '<s>', '</s>'];
  const pieces = [...special, ...bytes.map((byte) => `<0x${byte}>`)];
  // What the demo model takes for words are words here too.
  const others = Array.from({ length: vocabSize - world - 1 }, (_, index) => `▁w${world + 1 + index}`);
  const mark = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const tokenizer = {
    added_tokens: special.map((content, id) => ({ id, content, special: true })),
    normalizer: { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, mark] },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      byte_fallback: true,
      vocab: {
        ...Object.fromEntries(pieces.map((piece, id) => [piece, id])),
        '▁': world - 1,
        '▁world': world,
        ...Object.fromEntries(others.map((piece, index) => [piece, world + 1 + index])),
      },
      merges: [],
    },
  };
  const template = '{% for message in messages %}[INST] {{ message.content }} [/INST]{% endfor %}';
  const folder = new Folder({
    'tokenizer.json': JSON.stringify(tokenizer),
    'chat_template.jinja': template,
    'config.json': readFileSync(path.join(demoFolder, 'config.json'), 'utf8'),
  });
  symlinkSync(path.join(demoFolder, 'model.safetensors'), folder.at('model.safetensors'));
  return folder;
}
