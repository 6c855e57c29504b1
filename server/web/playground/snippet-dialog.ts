import { apiKey } from '../shared/api-key.js';
import { byId, setText } from '../shared/dom.js';
import { snippets } from './snippets.js';

type Language = keyof typeof snippets;

/** Shows the request as something to run elsewhere. */
export class SnippetDialog {
  readonly #dialog = byId<HTMLDialogElement>('snippet-dialog');
  readonly #code = byId('snippet');
  readonly #languages = [...document.querySelectorAll<HTMLInputElement>('input[name=language]')];
  #body: Record<string, unknown> = {};

  constructor() {
    byId('snippet-close').addEventListener('click', () => this.#dialog.close());
    byId('snippet-copy').addEventListener('click', () => void this.#copy());
    for (const language of this.#languages) language.addEventListener('change', () => this.#show());
  }

  open(body: Record<string, unknown>): void {
    this.#body = body;
    this.#show();
    this.#dialog.showModal();
  }

  #show(): void {
    const language = this.#languages.find(({ checked }) => checked)!.value as Language;
    const text = snippets[language]({
      url: location.origin,
      body: this.#body,
      hasKey: apiKey() !== undefined,
    });
    setText(this.#code, text);
    setText(byId('snippet-state'), '');
  }

  async #copy(): Promise<void> {
    const isCopied = await copy(this.#code);
    setText(byId('snippet-state'), isCopied ? 'Copied.' : 'Selected: press Ctrl+C.');
  }
}

/** Browsers give a page the clipboard only over HTTPS and on this machine; elsewhere the text is selected. */
async function copy(element: HTMLElement): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(element.textContent ?? '');
    return true;
  } catch {
    getSelection()?.selectAllChildren(element);
    return false;
  }
}
