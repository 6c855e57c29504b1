import type { Prepared } from '../prepare/prepared.js';
import type { ResponseNeeds } from './found-items.js';

/** A body that has become a response to generate. Plain data, as all that crosses threads. */
export interface PreparedResponse extends Prepared {
  readonly store: boolean;
  readonly previousResponseId: string | null;
  /** The fields of the response that repeat what was asked for, or say what was used in its place. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** The items of this request as they are kept: with ids, contents as parts. JSON text of an array. */
  readonly input: string;
  readonly inputIds: readonly string[];
  /** As `input`, of what came before it; `[]` for the first response of a conversation. */
  readonly conversation: string;
}

/** A conversation whose summary is to be generated. */
export interface PreparedCompaction extends Prepared {
  /** The items that stay beside the summary. JSON text of an array. */
  readonly kept: string;
}

export type CompactionPreparation =
  | { readonly prepared: PreparedCompaction }
  | { readonly needs: ResponseNeeds };

/** A response that refers to others says so first, and is prepared again with what was found. */
export type ResponsePreparation = { readonly prepared: PreparedResponse } | { readonly needs: ResponseNeeds };
