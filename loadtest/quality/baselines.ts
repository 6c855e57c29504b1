import { byScore, type PackedForm } from '../../engine/index.js';

/**
 * What others do with the pages that are not worth their memory, within the same rule of when: they are given up for good.
 * Both keep the same part of the pages, exact, so they take the same bytes at every length. Positions stay as they were.
 */

/** SnapKV (arXiv 2404.14469) and H2O (arXiv 2306.14048), by pages: those stay that received most attention from the probes. */
export function evicting(kept: number): PackedForm {
  return {
    high: 'bf16',
    low: 'none',
    pick: (scores, packable) => {
      const picked = new Uint8Array(packable);
      for (const page of byScore(scores, packable).slice(0, Math.ceil(kept * packable))) picked[page] = 1;
      return picked;
    },
  };
}

/** StreamingLLM (arXiv 2309.17453): the first page and the newest ones stay. */
export function sinkAndWindow(kept: number): PackedForm {
  return {
    high: 'bf16',
    low: 'none',
    pick: (_, packable) => {
      const newest = Math.ceil(kept * packable) - 1;
      return Uint8Array.from({ length: packable }, (_, page) =>
        page === 0 || page >= packable - newest ? 1 : 0,
      );
    },
  };
}
