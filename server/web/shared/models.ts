import { authorization } from './api-key.js';
import { errorOf, ServerError } from './server-error.js';

/** What the server takes of images. */
export interface ImageLimits {
  /** 'image/png' and the like. */
  readonly types: readonly string[];
  /** Of a conversation. */
  readonly max_images: number;
  /** Of one image, width times height. */
  readonly max_pixels: number;
}

/** What the server says of a model it serves. */
export interface Model {
  readonly id: string;
  readonly max_model_len: number;
  readonly tandem: {
    readonly family: string;
    readonly device: { readonly name: string; readonly isa: string; readonly units: number };
    readonly weights: string;
    readonly kv: { readonly precision: string; readonly bytes: number };
    /** Absent where the model reads none. */
    readonly images?: ImageLimits;
  };
}

/** None while it loads. Throws `ServerError`: 401 where a key is needed, 0 where there is no server. */
export async function servedModels(): Promise<Model[]> {
  const response = await fetch('/v1/models', { headers: authorization() }).catch(() => {
    throw new ServerError(0, 'The server cannot be reached.');
  });
  if (!response.ok) throw await errorOf(response);
  return ((await response.json()) as { data: Model[] }).data;
}
