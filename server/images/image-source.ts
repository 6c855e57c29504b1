import { type ApiError, invalidRequest } from '../openai/errors.js';

/** How much of an image the model sees: `low` is the whole of it, small; `high` its parts too. */
export const imageDetails = ['auto', 'low', 'high'] as const;
export type ImageDetail = (typeof imageDetails)[number];

/** An image as a content part names it. */
export interface ImageReference {
  readonly url: string;
  readonly detail: ImageDetail;
  /** Where it stands in the body, for errors. */
  readonly param: string;
}

/** An image as a body brings it. Plain data, as all that crosses threads. */
export interface ImageSource {
  /** Encoded, of a type in `imageTypes`. */
  readonly bytes: Uint8Array;
  readonly detail: ImageDetail;
  /** Where it stands in the body, for errors. */
  readonly param: string;
}

/** How the files of each type begin. */
export const imageTypes = {
  'image/png': (bytes: Uint8Array) => beginsWith(bytes, 0, '\x89PNG\r\n\x1a\n'),
  'image/jpeg': (bytes: Uint8Array) => beginsWith(bytes, 0, '\xff\xd8\xff'),
  'image/webp': (bytes: Uint8Array) => beginsWith(bytes, 0, 'RIFF') && beginsWith(bytes, 8, 'WEBP'),
};

function beginsWith(bytes: Uint8Array, at: number, magic: string): boolean {
  return Buffer.from(bytes.buffer, bytes.byteOffset + at, Math.min(magic.length, bytes.length - at))
    .toString('latin1')
    .startsWith(magic);
}

/** What many clients call JPEG. */
const usualMistake = 'image/jpg';

/** Longest type of a data: URL, with its parameters. */
const maxHeadChars = 256;

/** Of a data: URL; nothing is ever read from elsewhere. Throws `ApiError` 400. */
export function imageSource({ url, detail, param }: ImageReference): ImageSource {
  const head = url.slice(0, maxHeadChars).split(',', 1)[0]!;
  if (!/^data:/i.test(url)) {
    throw invalidRequest(
      `The image of '${param}' is not a data: URL, and nothing is fetched from elsewhere. Send the image itself: ` +
        "'data:image/png;base64,...'.",
      param,
      'unsupported_image_url',
    );
  }
  const [, type = '', encoding = ''] = /^data:([^;,]*)(?:;[^,;]*=[^,;]*)*(; *base64)?$/i.exec(head) ?? [];
  if (!Object.hasOwn(imageTypes, type.toLowerCase()) && type.toLowerCase() !== usualMistake) {
    const names = Object.keys(imageTypes).join(', ');
    throw broken(param, `is of type '${type.slice(0, 64)}'; there are ${names}`);
  }
  if (encoding === '') throw broken(param, 'is not in base64');
  // Many write base64 in lines, as mails have it. URLs of data allow that (WHATWG's "forgiving-base64 decode").
  const data = url.slice(head.length + 1).replace(/[\t\n\f\r ]+/g, '');
  const bytes = Buffer.from(data, 'base64');
  // What is no base64 is left out of the bytes.
  const padding = data.endsWith('==') ? 2 : data.endsWith('=') ? 1 : 0;
  if (bytes.length !== Math.floor(((data.length - padding) * 3) / 4))
    throw broken(param, 'is not valid base64');
  // What it is called does not matter to the decoder, nor what is said of it: what it is does.
  if (!Object.values(imageTypes).some((isOfType) => isOfType(bytes))) {
    throw broken(param, 'holds no PNG, JPEG or WebP');
  }
  return { bytes: new Uint8Array(bytes), detail, param };
}

/** What is wrong with the image at `param`. */
export function broken(param: string, problem: string): ApiError {
  return invalidRequest(`The image of '${param}' ${problem}.`, param, 'invalid_image');
}
