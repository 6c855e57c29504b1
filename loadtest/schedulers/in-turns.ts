import type { Figures } from './figures.js';

/** One that is compared: a server of its own under a policy, or llama.cpp. */
export interface Side {
  readonly name: string;
  /** From start to end: nothing of it runs afterwards. */
  measure(): Promise<Figures>;
}

/**
 * Measures every side once, then every side again, A B C A B C ..., so that whatever changes on the machine meets all.
 * `onTurn` sees each turn as it ends, `onTurns` then all turns of the sides that have had one.
 */
export async function inTurns(
  sides: readonly Side[],
  repetitions: number,
  onTurn: (side: string, repetition: number, figures: Figures) => void,
  onTurns: (turns: ReadonlyMap<string, readonly Figures[]>) => void,
): Promise<void> {
  const turns = new Map<string, Figures[]>();
  for (let repetition = 1; repetition <= repetitions; repetition += 1) {
    for (const side of sides) {
      const figures = await side.measure();
      turns.set(side.name, [...(turns.get(side.name) ?? []), figures]);
      onTurn(side.name, repetition, figures);
      onTurns(turns);
    }
  }
}
