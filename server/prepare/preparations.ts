import type { VisionSpec } from '../../engine/index.js';
import { openChatTemplate, openTokenizer, readGenerationDefaults } from '../../engine/prompts.js';
import { ImageMarkup } from '../images/image-markup.js';
import type { FoundItems } from '../responses/found-items.js';
import { prepareResponse, prepareResponseFrame } from '../responses/prepare.js';
import { prepareCompaction } from '../responses/prepare-compaction.js';
import type { CompactionPreparation, ResponsePreparation } from '../responses/prepared.js';
import { findToolCallFormat } from '../tools/find-format.js';
import { wantsParts } from './content-parts.js';
import type { PrepareContext } from './context.js';
import { prepareChat, prepareChatUpdate, prepareCompletion, prepareText, prepareTokens } from './prepare.js';
import type { Prepared, PreparedTokens } from './prepared.js';

/** What each kind of body becomes. */
const preparations = {
  chat: prepareChat,
  chatUpdate: prepareChatUpdate,
  completion: prepareCompletion,
  response: prepareResponse,
  responseFrame: prepareResponseFrame,
  compaction: prepareCompaction,
  tokens: prepareTokens,
  text: prepareText,
};
export type Preparation = keyof typeof preparations;
export type PreparationResult = {
  chat: Prepared;
  chatUpdate: Prepared;
  completion: Prepared;
  response: ResponsePreparation;
  responseFrame: ResponsePreparation;
  compaction: CompactionPreparation;
  tokens: PreparedTokens;
  text: { text: string };
};

/** All that a context is made of; a worker thread makes its own from this. */
export interface ContextSource {
  readonly folder: string;
  readonly chatTemplate?: string;
  readonly model: string;
  readonly contextLength: number;
  readonly trainedLength: number;
  readonly maxChoices: number;
  readonly maxPrompts: number;
  /** Absent where the model reads no images. */
  readonly vision?: VisionSpec;
  readonly maxImages: number;
  readonly maxImagePixels: number;
}

export async function openContext(source: ContextSource): Promise<PrepareContext> {
  const [tokenizer, template, defaults] = await Promise.all([
    openTokenizer(source.folder),
    openChatTemplate(source.folder, source.chatTemplate),
    readGenerationDefaults(source.folder),
  ]);
  const toolCallFormat = template ? findToolCallFormat(template) : undefined;
  const markup = source.vision && new ImageMarkup(tokenizer, source.vision);
  const templateWantsParts = template !== null && wantsParts(template);
  return { ...source, tokenizer, template, templateWantsParts, markup, toolCallFormat, defaults };
}

/** One body to prepare; `found` is what a response that continues others was found to refer to. */
export interface PrepareCall {
  readonly kind: Preparation;
  readonly body: Uint8Array;
  readonly found?: FoundItems | undefined;
}

export function prepareWith(
  context: PrepareContext,
  { kind, body, found }: PrepareCall,
): PreparationResult[Preparation] {
  return preparations[kind](context, body, found);
}
