import type { PrefillOrder } from '../../engine/index.js';
import { type PolicyName, type PolicyOptions, policyDefaults } from './policies.js';
import type { RunOptions } from './run.js';

/** A policy as it stands in a table: its name, its queue's order, and what else is set. */
export interface Variant {
  readonly label: string;
  readonly policy: PolicyName;
  readonly order: PrefillOrder;
  readonly policyOptions: Omit<PolicyOptions, 'slo'>;
}

export function variant(
  policy: PolicyName,
  order: PrefillOrder,
  changes: Partial<Omit<PolicyOptions, 'slo'>> = {},
  label = `${policy} ${order}`,
): Variant {
  return { label, policy, order, policyOptions: { ...policyDefaults, ...changes } };
}

/** The run's options that a variant does not say. */
export type Load = Omit<RunOptions, 'policy' | 'order' | 'policyOptions' | 'rate'>;
