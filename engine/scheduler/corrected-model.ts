import { Correction } from './correction.js';
import { CostModel } from './cost-model.js';
import type { DeviceConstants } from './device-constants.js';
import type { ModelWork } from './model-work.js';
import type { Learner } from './policies/nexus.js';

/** A cost model whose predictions follow the steps that the learner is told of. */
export function correctedModel(
  work: ModelWork,
  constants: DeviceConstants,
  options: { readonly contention?: boolean } = {},
): { predictor: CostModel; learner: Learner } {
  const correction = new Correction();
  const predictor = new CostModel(work, constants, constants.units, {
    ...options,
    factors: correction.factors,
  });
  const learner: Learner = {
    observe: (step) => correction.observe(step, predictor),
    errorRatio: (lane) => correction.errorRatio(lane),
  };
  return { predictor, learner };
}
