/**
 * A prompt's last rows, which hold the question's end more often than not. Fewer find what is asked for, but may miss it behind
 * a chat template's end; with 64, whose attention is mostly elsewhere, the same part of it takes a tenth more bytes.
 */
export const tailProbes = 16;
/** Behind a prompt every so manyeth row is a probe. */
const probeEvery = 8;

/** Neighbouring rows whose attention is looked at, as positions in the sequence. */
export interface ProbeRun {
  readonly position: number;
  readonly count: number;
}

/** A run, and what is done by what it sees: how the sequence is packed, or where the next rows of its prompt look. */
export interface Look {
  readonly run: ProbeRun;
  readonly decides: 'packing' | 'sight';
}

/**
 * Of the tokens [begin, end) of a sequence, the probes: rows whose attention says which tokens matter (the probe rows of
 * ZipCache, arXiv 2405.14256). Which rows they are follows from the prompt's length and the position alone.
 */
export function probesAmong(promptTokens: number, begin: number, end: number): ProbeRun[] {
  const runs: ProbeRun[] = [];
  const first = Math.max(begin, promptTokens - tailProbes, 0);
  const last = Math.min(end, promptTokens);
  if (first < last) runs.push({ position: first, count: last - first });
  for (let position = Math.max(begin, promptTokens); position < end; position++) {
    if (position % probeEvery === probeEvery - 1) runs.push({ position, count: 1 });
  }
  return runs;
}
