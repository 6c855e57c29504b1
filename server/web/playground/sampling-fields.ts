import { h } from '../shared/dom.js';

interface SamplingField {
  /** In the body of a request. */
  readonly name: string;
  readonly label: string;
  readonly hint: string;
  readonly min: number;
  readonly max?: number;
  readonly step: number | 'any';
}

/** What a request may say of sampling. A field that is left empty is not sent, and the model's own default holds. */
const fields: readonly SamplingField[] = [
  {
    name: 'temperature',
    label: 'Temperature',
    hint: '0 takes the likeliest token',
    min: 0,
    max: 2,
    step: 'any',
  },
  {
    name: 'top_p',
    label: 'Top p',
    hint: 'the likeliest tokens of this much probability',
    min: 0,
    max: 1,
    step: 'any',
  },
  { name: 'top_k', label: 'Top k', hint: 'so many of the likeliest tokens; 0 is all', min: -1, step: 1 },
  {
    name: 'min_p',
    label: 'Min p',
    hint: 'at least this part of the likeliest one',
    min: 0,
    max: 1,
    step: 'any',
  },
  { name: 'max_completion_tokens', label: 'Max tokens', hint: 'longest answer', min: 1, step: 1 },
  { name: 'seed', label: 'Seed', hint: 'the same seed gives the same answer', min: 0, step: 1 },
  {
    name: 'presence_penalty',
    label: 'Presence',
    hint: 'against tokens that were used',
    min: -2,
    max: 2,
    step: 'any',
  },
  {
    name: 'frequency_penalty',
    label: 'Frequency',
    hint: 'against tokens, by how often they were used',
    min: -2,
    max: 2,
    step: 'any',
  },
  { name: 'repetition_penalty', label: 'Repetition', hint: '1 is none', min: 0, max: 10, step: 'any' },
];

/** Number fields for sampling, in the form that they are put into. */
export class SamplingFields {
  readonly #inputs = new Map<string, HTMLInputElement>();

  constructor(parent: HTMLElement) {
    for (const { name, label, hint, min, max, step } of fields) {
      const input = h('input', {
        id: name,
        type: 'number',
        min,
        max,
        step,
        placeholder: 'default',
        title: hint,
      });
      this.#inputs.set(name, input);
      parent.append(h('div', { class: 'field' }, h('label', { for: name, title: hint }, label), input));
    }
  }

  /** Those that have a value. */
  values(): Record<string, number> {
    const filled = [...this.#inputs].filter(([, input]) => input.value !== '');
    return Object.fromEntries(filled.map(([name, input]) => [name, input.valueAsNumber]));
  }
}
