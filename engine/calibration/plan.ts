import { mixedGrain } from '../scheduler/chunks.js';
import { StepLoad } from '../scheduler/step-load.js';

/** What one step of a micro-run holds: chunks of prompts, and sequences that decode. */
export interface Shape {
  readonly chunks: readonly { readonly tokens: number; readonly context: number }[];
  readonly sequences: number;
  /** Tokens each decoding sequence holds at first. */
  readonly context: number;
}

export type MicroRun = {
  /** Kept from the fit, to see how well it predicts what it has not seen. */
  readonly heldOut?: boolean;
} & (
  | { readonly mode: 'alone'; readonly shape: Shape; readonly units: number }
  | {
      readonly mode: 'together';
      readonly prefill: Shape;
      readonly decode: Shape;
      readonly prefillUnits: number;
    }
);

export interface PlanLimits {
  readonly units: number;
  /** Units of prefill in each split of the device, rising. */
  readonly splits: readonly number[];
  readonly maxStepTokens: number;
  readonly maxSequences: number;
  /** Contexts are multiples of it. */
  readonly pageTokens: number;
  readonly contextLength: number;
  readonly kvBytesPerToken: number;
  /** A dozen runs instead of the whole grid, to see that all of it works. */
  readonly quick: boolean;
}

/** Chunks in one step at most. */
export const maxChunks = 4;

/** Runs that a full plan holds: with all of them the fit takes some seconds. */
const plannedRuns = 320;
const quickRuns = 16;
/** Of so many runs one is drawn at random, to judge the fit by. */
const heldOutEvery = 4;

type Kind = (place: Place, region: Region) => MicroRun;

/**
 * What the scheduler asks about, in turn, so that each beginning of the plan holds all of it: steps of either lane on its
 * part of a split, both at once, and one lane with every unit, for prompts, for streams and for both in one step.
 */
const splitKinds: readonly Kind[] = [
  together,
  mixed,
  decode,
  prefillOnSplit,
  together,
  prefill,
  mixed,
  decodeOnSplit,
  together,
  decode,
];

/** Where the device cannot be split. */
const wholeKinds: readonly Kind[] = [mixed, decode, prefill];

/**
 * Steps over all that the scheduler asks about. Their places are spread evenly over its dimensions together (splits, tokens,
 * contexts, streams), and each beginning of the plan is spread as evenly as a plan of that length can be: what a budget
 * cuts off leaves no corner without a step, as it does with a grid. Those that the fit is judged by are drawn at random
 * and know nothing of the others. The same each time.
 */
export function planMicroRuns(limits: PlanLimits): MicroRun[] {
  const region = regionOf(limits);
  const kinds = limits.splits.length > 0 ? splitKinds : wholeKinds;
  const random = randomPlaces();
  const turns = new Map<Kind, number>();
  const runs = Array.from({ length: limits.quick ? quickRuns : plannedRuns }, (_, index) => {
    const kind = kinds[index % kinds.length]!;
    const turn = turns.get(kind) ?? 0;
    turns.set(kind, turn + 1);
    // Each kind has its own turns, so that those that are held out are of all kinds.
    const heldOut = turn % heldOutEvery === heldOutEvery / 2;
    return { ...kind(heldOut ? random() : evenPlace(turn), region), heldOut };
  });
  return unique(runs);
}

/** Of the runs, in their order, those that fit into `seconds` together; none takes more than a fifteenth of it. */
export function withinBudget(
  runs: readonly MicroRun[],
  seconds: number,
  estimate: (run: MicroRun) => number,
): MicroRun[] {
  let left = seconds;
  return runs.filter((run) => {
    const cost = estimate(run);
    if (cost > seconds / 15 || cost > left) return false;
    left -= cost;
    return true;
  });
}

/** The load of a shape's step, after `grown` steps of its decoding sequences. */
export function loadOfShape(shape: Shape, grown: number, kvBytesPerToken: number): StepLoad {
  const load = new StepLoad();
  for (const { tokens, context } of shape.chunks) load.addChunk(tokens, context, kvBytesPerToken, true);
  for (let index = 0; index < shape.sequences; index++) {
    load.addDecode(shape.context + grown + 1, kvBytesPerToken);
  }
  return load;
}

function promptOf(chunks: Shape['chunks']): Shape {
  return { chunks, sequences: 0, context: 0 };
}

function decodeOf(sequences: number, context: number): Shape {
  return { chunks: [], sequences, context };
}

/** What the plan's steps may hold. */
interface Region {
  readonly limits: PlanLimits;
  readonly mostTokens: number;
  readonly mostSequences: number;
  readonly mostContext: number;
}

/** Longer contexts of a step cost the time of many others, and add nothing that attention at this length does not show. */
const mostContext = 16384;
/** Of a chunk beside streams. */
const leastTokens = mixedGrain;

function regionOf(limits: PlanLimits): Region {
  const { maxStepTokens, maxSequences, contextLength, pageTokens, quick } = limits;
  // The last of a context's tokens is the first one's that is generated behind it.
  const context = Math.min(quick ? 256 : mostContext, contextLength - maxStepTokens);
  return {
    limits,
    mostTokens: quick ? Math.min(64, maxStepTokens) : maxStepTokens,
    mostSequences: Math.min(maxSequences, quick ? Math.min(4, maxStepTokens) : maxStepTokens),
    mostContext: Math.max(0, context - (context % pageTokens)),
  };
}

/** A point of the region, each part from 0 to 1. */
interface Place {
  readonly split: number;
  readonly tokens: number;
  readonly context: number;
  readonly sequences: number;
  readonly decodeContext: number;
}

/**
 * Fractional parts of the multiples of powers of 1 / phi, the root of x^6 = x + 1: what the golden section is for one dimension
 * (Roberts, "The Unreasonable Effectiveness of Quasirandom Sequences", 2018).
 */
const phi = 1.1347241384015194;

function evenPlace(turn: number): Place {
  return placeOf((part) => (0.5 + (turn + 1) / phi ** part) % 1);
}

function randomPlaces(): () => Place {
  // Park and Miller's generator.
  let state = 1;
  const next = () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
  return () => placeOf(next);
}

/** @param at the parts, asked for in turn from 1 on */
function placeOf(at: (part: number) => number): Place {
  return { split: at(1), tokens: at(2), context: at(3), sequences: at(4), decodeContext: at(5) };
}

function prefill(place: Place, region: Region): MicroRun {
  return aloneOf(promptAt(place, region), region.limits.units);
}

function prefillOnSplit(place: Place, region: Region): MicroRun {
  return aloneOf(promptAt(place, region), splitAt(place, region));
}

function decode(place: Place, region: Region): MicroRun {
  return aloneOf(decodeAt(place, region), region.limits.units);
}

/** It has what a split leaves. */
function decodeOnSplit(place: Place, region: Region): MicroRun {
  return aloneOf(decodeAt(place, region), region.limits.units - splitAt(place, region));
}

function aloneOf(shape: Shape, units: number): MicroRun {
  return { mode: 'alone', shape, units };
}

function together(place: Place, region: Region): MicroRun {
  const chunk = chunkAt(place, region, region.mostTokens);
  const prefillUnits = splitAt(place, region);
  return { mode: 'together', prefill: promptOf([chunk]), decode: decodeAt(place, region), prefillUnits };
}

function mixed(place: Place, region: Region): MicroRun {
  const { limits, mostTokens } = region;
  const sequences = Math.min(sequencesAt(place, region), Math.max(1, mostTokens - leastTokens));
  const chunks = [chunkAt(place, region, Math.max(1, mostTokens - sequences))];
  return aloneOf({ chunks, sequences, context: decodeContextAt(place, region) }, limits.units);
}

/** Of the longer steps of prompts, some read several short ones. */
function promptAt(place: Place, region: Region): Shape {
  const chunk = chunkAt(place, region, region.mostTokens);
  const tokens = Math.floor(chunk.tokens / maxChunks);
  if (chunk.tokens < 64 || place.decodeContext > 0.25) return promptOf([chunk]);
  return promptOf(Array(maxChunks).fill({ tokens, context: chunk.context }));
}

function chunkAt({ tokens, context }: Place, { limits, mostContext: most }: Region, mostTokens: number) {
  // A prompt's first chunk is as common as all others of it.
  const behind =
    context < 0.25 || most === 0
      ? 0
      : wholePages(between(limits.pageTokens, most, (context - 0.25) / 0.75), limits, 0);
  return {
    tokens: Math.round(between(Math.min(leastTokens, mostTokens), mostTokens, tokens)),
    context: behind,
  };
}

function decodeAt(place: Place, region: Region): Shape {
  return decodeOf(sequencesAt(place, region), decodeContextAt(place, region));
}

function sequencesAt({ sequences }: Place, { mostSequences }: Region): number {
  return Math.round(between(1, mostSequences, sequences));
}

function decodeContextAt({ decodeContext }: Place, { limits, mostContext: most }: Region): number {
  return wholePages(between(limits.pageTokens, most, decodeContext), limits, limits.pageTokens);
}

function splitAt({ split }: Place, { limits }: Region): number {
  return limits.splits[Math.min(limits.splits.length - 1, Math.floor(split * limits.splits.length))]!;
}

/** From least to most, evenly in the logarithm: what is twice as long matters as much wherever it is. */
function between(least: number, most: number, part: number): number {
  return most <= least ? least : least * (most / least) ** part;
}

function wholePages(tokens: number, { pageTokens }: PlanLimits, least: number): number {
  return Math.max(least, pageTokens * Math.round(tokens / pageTokens));
}

function unique(runs: readonly MicroRun[]): MicroRun[] {
  return [...new Map(runs.map((run) => [JSON.stringify({ ...run, heldOut: false }), run])).values()];
}
