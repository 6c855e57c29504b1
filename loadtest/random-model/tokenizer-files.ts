import { writeFileSync } from 'node:fs';
import type { Vocabulary } from './vocabulary.js';

/** Plain turns; enough for the chat endpoint to work. */
const chatTemplate =
  "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}" +
  '{% if add_generation_prompt %}assistant: {% endif %}';

/** Writes a `tokenizer.json`. */
export function writeTokenizer(file: string, vocabulary: Vocabulary): void {
  const { tokens, special: steering } = vocabulary;
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: true };
  const special = (id: number) => ({
    id,
    content: tokens[id],
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: steering.map(special),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: [],
    },
  };
  writeFileSync(file, JSON.stringify(tokenizer));
}

/** Writes a `tokenizer_config.json`. */
export function writeTokenizerConfig(
  file: string,
  { tokens, bos, eos }: Vocabulary,
  template = chatTemplate,
): void {
  const config = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: tokens[bos],
    eos_token: tokens[eos],
    clean_up_tokenization_spaces: false,
    chat_template: template,
  };
  writeFileSync(file, JSON.stringify(config, null, 1));
}
