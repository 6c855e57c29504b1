/** What makes prompts of a model's folder, for threads that run no engine. */
export { openChatTemplate } from './model/chat-template.js';
export { readGenerationDefaults } from './model/generation-defaults.js';
export { type ImageProcessing, readImageProcessing } from './model/image-processing.js';
export type {
  ChatMessage,
  ChatTemplate,
  GenerationDefaults,
  Tokenizer,
  TokenStream,
} from './model/text.js';
export { openTokenizer } from './model/tokenizer.js';
