import { apiKey, keepApiKey } from './api-key.js';
import { byId, setText } from './dom.js';

/** The dialog that asks for an API key; both pages have it. */
export class KeyDialog {
  readonly #dialog = byId<HTMLDialogElement>('key-dialog');
  readonly #field = byId<HTMLInputElement>('key-field');

  /** `onKey` is called when another key is to be used; an empty one means none. */
  constructor(onKey: () => void) {
    byId('key-button').addEventListener('click', () =>
      this.ask('A key is needed where the server has keys.'),
    );
    byId('key-cancel').addEventListener('click', () => this.#dialog.close());
    byId('key-form').addEventListener('submit', (event) => {
      event.preventDefault();
      keepApiKey(this.#field.value.trim());
      this.#dialog.close();
      onKey();
    });
  }

  ask(reason: string): void {
    setText(byId('key-reason'), reason);
    this.#field.value = apiKey() ?? '';
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#field.select();
  }
}
