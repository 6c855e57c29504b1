import { byId } from '../shared/dom.js';
import { SamplingFields } from './sampling-fields.js';

/** A setting that no request can be made of. */
export class InvalidSetting extends Error {
  constructor(
    message: string,
    readonly field: HTMLElement,
  ) {
    super(message);
  }
}

/** Likeliest tokens that are asked for beside the chosen one. */
const shownAlternatives = 5;

const schemaExample = {
  type: 'object',
  properties: { name: { type: 'string' }, city: { type: 'string' } },
  required: ['name', 'city'],
  additionalProperties: false,
};

const grammarExample = 'root ::= "yes" | "no"';

const toolExample = [
  {
    type: 'function',
    function: {
      name: 'get_weather',
      description: 'The weather in a city.',
      parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
    },
  },
];

/** The form beside the conversation: everything of a request but its messages. */
export class Settings {
  readonly #model = byId<HTMLSelectElement>('model');
  readonly #system = byId<HTMLTextAreaElement>('system');
  readonly #stop = byId<HTMLTextAreaElement>('stop-strings');
  readonly #format = byId<HTMLSelectElement>('format');
  readonly #schema = byId<HTMLTextAreaElement>('schema');
  readonly #grammar = byId<HTMLTextAreaElement>('grammar');
  readonly #tools = byId<HTMLTextAreaElement>('tools');
  readonly #toolChoice = byId<HTMLSelectElement>('tool-choice');
  readonly #priority = byId<HTMLInputElement>('priority');
  readonly #deadline = byId<HTMLInputElement>('deadline');
  readonly #probabilities = byId<HTMLInputElement>('probabilities');
  readonly #sampling = new SamplingFields(byId('sampling'));

  constructor() {
    this.#schema.value = JSON.stringify(schemaExample, null, 2);
    this.#grammar.value = grammarExample;
    byId('tools-example').addEventListener('click', () => {
      this.#tools.value = JSON.stringify(toolExample, null, 2);
    });
    const showFormat = (): void => {
      byId('schema-field').hidden = this.#format.value !== 'json_schema';
      byId('grammar-field').hidden = this.#format.value !== 'grammar';
    };
    this.#format.addEventListener('change', showFormat);
    showFormat();
  }

  setModels(ids: readonly string[]): void {
    this.#model.replaceChildren(...ids.map((id) => new Option(id, id)));
  }

  get showsProbabilities(): boolean {
    return this.#probabilities.checked;
  }

  /** The system prompt as a message; none where it is empty. */
  system(): { role: 'system'; content: string }[] {
    const content = this.#system.value.trim();
    return content === '' ? [] : [{ role: 'system', content }];
  }

  /** The fields of a request, without its messages. Throws `InvalidSetting`. */
  fields(): Record<string, unknown> {
    this.#checkNumbers();
    const stop = this.#stop.value.split('\n').filter((line) => line !== '');
    return {
      ...(this.#model.value !== '' && { model: this.#model.value }),
      ...this.#sampling.values(),
      ...(stop.length > 0 && { stop }),
      ...this.#formatFields(),
      ...this.#toolFields(),
      ...(this.showsProbabilities && { logprobs: true, top_logprobs: shownAlternatives }),
      ...this.#tandemFields(),
    };
  }

  #checkNumbers(): void {
    const inputs = byId('settings').querySelectorAll<HTMLInputElement>('input[type=number]');
    const wrong = [...inputs].find((input) => !input.checkValidity());
    if (!wrong) return;
    const name = wrong.labels?.[0]?.textContent ?? wrong.id;
    throw new InvalidSetting(`${name}: ${wrong.validationMessage}`, wrong);
  }

  #formatFields(): object {
    switch (this.#format.value) {
      case 'json_object':
        return { response_format: { type: 'json_object' } };
      case 'json_schema': {
        const schema = parsed(this.#schema, 'The JSON schema');
        return {
          response_format: { type: 'json_schema', json_schema: { name: 'answer', strict: true, schema } },
        };
      }
      case 'grammar':
        return { grammar: this.#grammar.value };
      default:
        return {};
    }
  }

  #toolFields(): object {
    if (this.#tools.value.trim() === '') return {};
    const tools = parsed(this.#tools, 'The list of tools');
    if (!Array.isArray(tools)) throw new InvalidSetting('The tools must be a JSON array.', this.#tools);
    return { tools, tool_choice: this.#toolChoice.value };
  }

  #tandemFields(): object {
    const { value: priority } = this.#priority;
    const { value: deadline } = this.#deadline;
    if (priority === '' && deadline === '') return {};
    return {
      tandem: {
        ...(priority !== '' && { priority: Number(priority) }),
        ...(deadline !== '' && { deadline_ms: Number(deadline) }),
      },
    };
  }
}

function parsed(field: HTMLTextAreaElement, what: string): unknown {
  try {
    return JSON.parse(field.value);
  } catch (error) {
    throw new InvalidSetting(`${what} is no valid JSON: ${(error as Error).message}`, field);
  }
}
