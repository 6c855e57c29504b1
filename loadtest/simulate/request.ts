import { SimulatedSequence } from '../../engine/index.js';

/** A request on its way, with the times that its own figures are made of. */
export class SimulatedRequest extends SimulatedSequence {
  firstTokenMs = Number.NaN;
  lastTokenMs = Number.NaN;
  longestGapMs = 0;
}
