import type { ChatMessage, ChatTemplate } from '../../engine/index.js';
import type { ImageDetail, ImageReference } from '../images/image-source.js';
import { type ApiError, invalidRequest } from '../openai/errors.js';

/** A part of a message on its way to the chat template, which does not see an image's `reference`. */
export type TemplatePart =
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'image'; readonly reference: ImageReference };

/** An image of a message of this role. Throws `ApiError` 400 where such messages have none. */
export function imagePart(
  url: string,
  detail: ImageDetail | null | undefined,
  role: string,
  param: string,
): TemplatePart {
  if (role !== 'user') {
    throw invalidRequest(
      `Images belong into messages of the user, not of the ${role}.`,
      param,
      'unsupported_content',
    );
  }
  return { type: 'image', reference: { url, detail: detail ?? 'auto', param } };
}

export function unsupportedPart(type: string, param: string): ApiError {
  return invalidRequest(
    `Content parts of type '${type}' are not supported: there are texts, and images where the model reads them.`,
    param,
    'unsupported_content',
  );
}

export function readsNoImages(param: string): ApiError {
  return invalidRequest(
    "Images are not supported; this model reads text. Serve one that reads images (docs/models.md), or send 'text'.",
    param,
    'unsupported_content',
  );
}

/** One text, as most templates want it, where no part is an image. */
export function joinedTexts(parts: readonly TemplatePart[]): string | readonly TemplatePart[] {
  const texts = parts.flatMap((part) => (part.type === 'text' ? part.text : []));
  return texts.length === parts.length ? texts.join('') : parts;
}

export function isImage(part: unknown): part is Extract<TemplatePart, { type: 'image' }> {
  return (
    typeof part === 'object' &&
    part !== null &&
    'reference' in part &&
    'type' in part &&
    part.type === 'image'
  );
}

export function imagesOf({ content }: ChatMessage): ImageReference[] {
  return Array.isArray(content) ? content.filter(isImage).map(({ reference }) => reference) : [];
}

/** What a template is given of a message's content. */
export function contentFor(content: ChatMessage['content'], wantsParts: boolean): ChatMessage['content'] {
  if (Array.isArray(content)) return content.map((part) => (isImage(part) ? { type: part.type } : part));
  return wantsParts ? [{ type: 'text', text: content ?? '' }] : content;
}

/** Whether a template reads contents as lists of parts alone: it does not write what stands in a text. */
export function wantsParts(template: ChatTemplate): boolean {
  const probe = 'This was said.';
  const writes = (content: ChatMessage['content']): boolean => {
    try {
      const messages = [{ role: 'user', content }];
      return template.render({ messages, addGenerationPrompt: false }).includes(probe);
    } catch {
      return false;
    }
  };
  return !writes(probe) && writes([{ type: 'text', text: probe }]);
}
