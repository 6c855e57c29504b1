import { byId, h } from '../shared/dom.js';
import type { ImageLimits } from '../shared/models.js';

/** An image of a message: as it is sent, and as it is shown. */
export interface Attachment {
  readonly url: string;
  readonly picture: HTMLCanvasElement;
}

interface AttachmentsOptions {
  /** Images that the conversation shows already. */
  readonly shown: () => number;
  readonly onChange: () => void;
  /** What cannot be attached, and why. */
  readonly onProblem: (problem: string) => void;
}

/** Pixels of a picture's longer edge, as it is shown. */
const pictureEdge = 400;

/** The images of the message that is being written: chosen, pasted or dropped. */
export class Attachments {
  readonly #list = byId('attached');
  readonly #button = byId<HTMLButtonElement>('attach');
  readonly #files = byId<HTMLInputElement>('image-files');
  readonly #options: AttachmentsOptions;
  #attached: Attachment[] = [];
  #limits: ImageLimits | undefined;
  /** Files that are read one after another. */
  #reading = 0;
  #last: Promise<void> = Promise.resolve();

  constructor(options: AttachmentsOptions) {
    this.#options = options;
    this.#button.addEventListener('click', () => this.#files.click());
    this.#files.addEventListener('change', () => {
      this.add(this.#files.files ?? []);
      // So that the same one can be chosen again.
      this.#files.value = '';
    });
    byId('prompt').addEventListener('paste', (event) => {
      const files = (event as ClipboardEvent).clipboardData?.files ?? [];
      if (files.length === 0) return;
      event.preventDefault();
      this.add(files);
    });
    // A file that is dropped elsewhere on the page would take its place.
    document.addEventListener('dragover', (event) => {
      if (event.dataTransfer?.types.includes('Files')) event.preventDefault();
    });
    document.addEventListener('drop', (event) => {
      const files = event.dataTransfer?.files ?? [];
      if (files.length === 0) return;
      event.preventDefault();
      this.add(files);
    });
  }

  /** Undefined where the model reads no images. */
  setLimits(limits: ImageLimits | undefined): void {
    this.#limits = limits;
    this.#files.accept = limits?.types.join(',') ?? '';
    this.#button.disabled = limits === undefined;
    this.#button.title = limits
      ? `${namesOf(limits.types)}; up to ${limits.max_images} in a conversation. Pasting and dropping work too.`
      : 'This model reads no images';
  }

  get isReading(): boolean {
    return this.#reading > 0;
  }

  get all(): readonly Attachment[] {
    return this.#attached;
  }

  add(files: Iterable<File>): void {
    for (const file of files) {
      this.#reading++;
      this.#last = this.#last
        .then(() => this.#attach(file))
        .catch((error: Error) => this.#options.onProblem(error.message))
        .finally(() => {
          this.#reading--;
          this.#options.onChange();
        });
    }
    this.#options.onChange();
  }

  /** In place of those that there are. */
  put(attachments: readonly Attachment[]): void {
    this.#attached = [...attachments];
    this.#draw();
  }

  /** They belong to a message now. */
  take(): readonly Attachment[] {
    const taken = this.#attached;
    this.put([]);
    return taken;
  }

  async #attach(file: File): Promise<void> {
    const limits = this.#limits;
    if (!limits) throw new Error('This model reads no images.');
    if (!limits.types.includes(file.type))
      throw new Error(`${file.name} is none of ${namesOf(limits.types)}.`);
    if (this.#options.shown() + this.#attached.length >= limits.max_images) {
      throw new Error(`A conversation shows up to ${limits.max_images} images here (--max-images).`);
    }
    const bitmap = await createImageBitmap(file).catch(() => {
      throw new Error(`${file.name} cannot be read as an image.`);
    });
    const { width, height } = bitmap;
    if (width * height > limits.max_pixels) {
      bitmap.close();
      throw new Error(
        `${file.name} has ${width} x ${height} pixels; the limit is ${limits.max_pixels} in all (--max-image-pixels).`,
      );
    }
    const picture = pictureOf(bitmap, file.name);
    bitmap.close();
    this.#attached.push({ url: await dataUrlOf(file), picture });
    this.#draw();
  }

  #draw(): void {
    const items = this.#attached.map((attachment, index) => {
      const name = attachment.picture.getAttribute('aria-label');
      const remove = h(
        'button',
        { type: 'button', class: 'remove', 'aria-label': `Remove ${name}`, title: 'Remove' },
        '×',
      );
      remove.addEventListener('click', () => this.#remove(index));
      return h('li', {}, attachment.picture, remove);
    });
    this.#list.replaceChildren(...items);
    this.#list.hidden = items.length === 0;
  }

  /** Whoever goes by keyboard is at the next one then, or where one writes. */
  #remove(index: number): void {
    this.#attached.splice(index, 1);
    this.#draw();
    const buttons = this.#list.querySelectorAll('button');
    (buttons[Math.min(index, buttons.length - 1)] ?? byId('prompt')).focus();
    this.#options.onChange();
  }
}

/** Drawn, and not shown by its address: the page's policy lets it show what the server sends alone. */
function pictureOf(bitmap: ImageBitmap, name: string): HTMLCanvasElement {
  const scale = Math.min(1, pictureEdge / Math.max(bitmap.width, bitmap.height));
  const picture = h('canvas', {
    class: 'picture',
    role: 'img',
    'aria-label': name,
    width: Math.max(1, Math.round(bitmap.width * scale)),
    height: Math.max(1, Math.round(bitmap.height * scale)),
  });
  picture.getContext('2d')!.drawImage(bitmap, 0, 0, picture.width, picture.height);
  return picture;
}

function dataUrlOf(file: File): Promise<string> {
  const reader = new FileReader();
  return new Promise((resolve, reject) => {
    reader.onload = () => resolve(reader.result as string);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read.`));
    reader.readAsDataURL(file);
  });
}

/** 'image/png', 'image/jpeg': "PNG, JPEG" */
function namesOf(types: readonly string[]): string {
  return types.map((type) => type.replace('image/', '').toUpperCase()).join(', ');
}
