import { StepLoad } from '../scheduler/step-load.js';

/** The counts of a `StepLoad`, as they are stored. */
export type LoadCounts = Pick<
  StepLoad,
  | 'prefillTokens'
  | 'prefillPairs'
  | 'prefillKvBytes'
  | 'decodeSequences'
  | 'decodeTokens'
  | 'decodeKvBytes'
  | 'logitRows'
>;

/** A measured step: what it computed, where, beside what, and how long it took. */
export interface Sample {
  readonly load: LoadCounts;
  readonly units: number;
  /** What the other lane was busy with all the time; null: nothing. */
  readonly other: { readonly load: LoadCounts; readonly units: number } | null;
  readonly seconds: number;
  /** Kept from the fit: see `MicroRun`. */
  readonly heldOut?: boolean;
  /** By operator class, where the device measures it. */
  readonly opSeconds?: readonly number[];
}

export function loadOf(counts: LoadCounts): StepLoad {
  return Object.assign(new StepLoad(), counts);
}

/** What the fit may see, and what judges it. */
export function splitSamples(samples: readonly Sample[]): { fitted: Sample[]; heldOut: Sample[] } {
  return {
    fitted: samples.filter(({ heldOut }) => heldOut !== true),
    heldOut: samples.filter(({ heldOut }) => heldOut === true),
  };
}
