import type { KvHeadReport } from '../../engine/convert/index.js';
import type { Rows } from '../rows.js';

/** What a conversion saves and costs, measured on the part of the calibration text that no fit has seen. */
export function addKvHeadRows(rows: Rows, report: KvHeadReport): void {
  rows.add('KV heads', report.kvHeads, 'heads', report.heads);
  rows.add('KV of a token in bf16', report.bytesPerToken, 'bytes', report.originalBytesPerToken);
  rows.add('perplexity of calibration text', report.perplexity, 'ppl', report.originalPerplexity);
  for (const [layer, found] of report.layers.entries()) {
    const { attention, valueLoss, outputError, fittedOutputError } = found;
    const name = `layer ${layer}`;
    rows.add(`${name}: KL divergence of attention`, attention.taken ?? 0, 'millinats', attention.svd ?? null);
    rows.add(`${name}: values that are lost`, 100 * valueLoss, '%');
    rows.add(
      `${name}: error of attention's output`,
      100 * (fittedOutputError ?? outputError),
      '%',
      100 * outputError,
    );
  }
}
