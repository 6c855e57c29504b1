export const contenderNames = [
  'nexus',
  'chunked',
  'chunked-fcfs',
  'prefill-first',
  'prefill-first-fcfs',
  'static',
  'reactive',
] as const;

export type ContenderName = (typeof contenderNames)[number];

/** A policy with the flags of `tandem serve` that choose it. */
export interface Contender {
  /** Without a slack, the policy's name and its order of prompts where that is not the usual one. */
  readonly name: string;
  readonly flags: readonly string[];
  /** Whether the others' TTFT is compared with this one's. */
  readonly isReference: boolean;
}

/** All rivals read the shortest prompt first unless they say otherwise, so that policies are compared and not orders. */
export function contendersOf(names: readonly ContenderName[], slacks: readonly number[]): Contender[] {
  return names.flatMap((name) => {
    if (name === 'nexus' && slacks.length > 0) return slacks.map((slack) => nexusWith(slack));
    const isFcfs = name.endsWith('-fcfs');
    const policy = isFcfs ? name.slice(0, -'-fcfs'.length) : name;
    return {
      name: isFcfs ? `${policy}, fcfs` : policy,
      flags: ['--scheduler', policy, '--prefill-order', isFcfs ? 'fcfs' : 'spf'],
      isReference: name === 'prefill-first',
    };
  });
}

function nexusWith(slack: number): Contender {
  return {
    name: `nexus, slack ${slack}`,
    flags: ['--scheduler', 'nexus', '--prefill-order', 'spf', '--decode-slack', String(slack)],
    isReference: false,
  };
}
