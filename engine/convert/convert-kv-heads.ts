import { createHash } from 'node:crypto';
import { EngineError } from '../errors.js';
import type { Checkpoint, ModelSpec } from '../model/model-spec.js';
import { ConversionFolder } from './conversion-folder.js';
import type { LayerReport, MergePlan } from './convert-layer.js';
import { convertNextLayer, embed, heldOutWindows } from './kv-head-conversion.js';
import { perplexity } from './text-perplexity.js';
import { WeightReader } from './weight-reader.js';

export interface KvHeadOptions {
  /** New, or empty. */
  readonly out: string;
  /** Part of the KV heads, and so of the KV cache, that stays. */
  readonly keep: number;
  readonly method: MergePlan['method'];
  readonly groups: MergePlan['groups'];
  /** Calibration text; the last quarter is kept from the fits. */
  readonly windows: readonly Int32Array[];
  /** Changes from one layer to the next, and within one. */
  readonly onProgress: (layer: number, done: number) => void;
  /** Files to write beside the model, by their names. */
  readonly report: (report: KvHeadReport) => Readonly<Record<string, string>>;
}

export interface KvHeadReport {
  readonly heads: number;
  readonly kvHeads: number;
  /** Of K and V in bf16. */
  readonly bytesPerToken: number;
  readonly originalBytesPerToken: number;
  readonly tokens: number;
  /** Of the calibration text that no fit has seen, in float64. */
  readonly perplexity: number;
  readonly originalPerplexity: number;
  readonly layers: readonly LayerReport[];
}

/** KV heads that stay. Throws `EngineError('invalid_request')` where the model cannot be converted so. */
export function keptKvHeads(spec: ModelSpec, keep: number): number {
  const { heads, kvHeads } = spec;
  const refuse = (problem: string) => new EngineError('invalid_request', problem);
  if (spec.vision) {
    throw refuse(`the model reads images (${spec.family}); only models of text alone are converted`);
  }
  if (kvHeads !== heads) {
    throw refuse(
      `the model shares KV heads already (${kvHeads} for ${heads} heads); only multi-head attention is converted`,
    );
  }
  if (spec.qkNorm) {
    throw refuse(
      "the model normalizes each head's keys (QK norm), so they are no linear maps of its input: it cannot be converted",
    );
  }
  const kept = heads * keep;
  if (!Number.isInteger(kept) || kept < 1 || heads % kept !== 0) {
    const possible = Array.from({ length: heads - 1 }, (_, index) => index + 1)
      .filter((count) => heads % count === 0)
      .map((count) => Number((count / heads).toFixed(4)));
    throw refuse(
      `--keep ${keep} of ${heads} heads gives groups of unequal size; possible are ${possible.join(', ') || 'none'}`,
    );
  }
  if (kept === heads) throw refuse('--keep 1 keeps every head: nothing is to be done');
  return kept;
}

/** Rewrites a model with multi-head attention to fewer KV heads (grouped-query attention). */
export async function convertKvHeads(checkpoint: Checkpoint, options: KvHeadOptions): Promise<KvHeadReport> {
  const { spec } = checkpoint;
  const plan: MergePlan = {
    kvHeads: keptKvHeads(spec, options.keep),
    method: options.method,
    groups: options.groups,
  };
  if (options.windows.length < 2) {
    throw new EngineError(
      'invalid_request',
      'calibration needs two windows of text or more: one stays unseen',
    );
  }
  const reader = new WeightReader(checkpoint);
  const folder = new ConversionFolder(options.out, fingerprint(checkpoint, plan, options.windows));
  const hidden = folder.hiddenStates(spec.hidden) ?? embed(options.windows, reader);
  for (let layer = folder.layers.length; layer < spec.layers; layer += 1) {
    options.onProgress(layer, 0);
    const { tensors, report } = convertNextLayer(hidden, layer, {
      spec,
      reader,
      plan,
      // Behind the fits there is more to do, and 1 says that the layer is kept.
      onProgress: (done) => options.onProgress(layer, 0.9 * done),
    });
    folder.addLayer(tensors, report, hidden, reader);
    options.onProgress(layer, 1);
  }
  const heldOut = -heldOutWindows(options.windows.length);
  const perplexityOf = (states: (typeof hidden)['original']) =>
    perplexity(states.slice(heldOut), options.windows.slice(heldOut), reader, spec);
  const bytesOf = (kvHeads: number) => spec.layers * kvHeads * spec.headDim * 2 * 2;
  const report: KvHeadReport = {
    heads: spec.heads,
    kvHeads: plan.kvHeads,
    bytesPerToken: bytesOf(plan.kvHeads),
    originalBytesPerToken: bytesOf(spec.kvHeads),
    tokens: options.windows.reduce((sum, { length }) => sum + length, 0),
    perplexity: perplexityOf(hidden.converted),
    originalPerplexity: perplexityOf(hidden.original),
    layers: folder.layers,
  };
  await folder.finish(checkpoint, reader, plan.kvHeads, options.report(report));
  return report;
}

function fingerprint({ spec, tensors }: Checkpoint, plan: MergePlan, windows: readonly Int32Array[]): string {
  const hash = createHash('sha256').update(JSON.stringify({ spec, tensors, plan }));
  for (const window of windows) hash.update(window);
  return hash.digest('hex');
}
