import { translateRegex } from './regex-translation.js';
import { type Component, isRecord } from './tokenizer-files.js';

export type Normalizer = (text: string) => string;

/** A lone half of a surrogate pair has no UTF-8; it becomes U+FFFD, as text encoders make it. */
export function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, '\ufffd');
}

/** Undefined where the normalizer is of a kind that the general tokenizer must do. */
export function compileNormalizer(component: Component | null): Normalizer | undefined {
  if (component === null) return (text) => text;
  switch (component.type) {
    case 'Sequence':
      return sequence(component.normalizers);
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD': {
      const form = component.type;
      return (text) => text.normalize(form);
    }
    case 'Prepend': {
      const { prepend } = component;
      if (typeof prepend !== 'string') return undefined;
      return (text) => (text === '' ? text : prepend + text);
    }
    case 'Replace':
      return replace(component);
    default:
      return undefined;
  }
}

function sequence(list: unknown): Normalizer | undefined {
  if (!Array.isArray(list)) return undefined;
  const steps: Normalizer[] = [];
  for (const item of list as Component[]) {
    const step = isRecord(item) ? compileNormalizer(item) : undefined;
    if (!step) return undefined;
    steps.push(step);
  }
  return (text) => steps.reduce((current, step) => step(current), text);
}

function replace(component: Component): Normalizer | undefined {
  const { pattern, content } = component;
  if (!isRecord(pattern) || typeof content !== 'string') return undefined;
  if (typeof pattern.String === 'string') {
    const from = pattern.String;
    return from === '' ? undefined : (text) => text.replaceAll(from, () => content);
  }
  const regex = typeof pattern.Regex === 'string' ? translateRegex(pattern.Regex) : undefined;
  if (regex === undefined) return undefined;
  const compiled = new RegExp(regex, 'gu');
  return (text) => text.replace(compiled, () => content);
}
