import type { Figures } from './figures.js';

/** One that is compared: a server of its own under a policy, or llama.cpp. */
export interface Side {
  readonly name: string;
  /** From start to end: nothing of it runs afterwards. */
  measure(): Promise<Figures>;
}

/**
 * Measures every side once, then every side again, A B C A B C ..., so that whatever changes on the machine meets all.
 * `onTurn` sees each turn as it ends, `onRound` all turns of all sides whenever every side has had as many.
 */
export async function inTurns(
  sides: readonly Side[],
  repetitions: number,
  onTurn: (side: string, repetition: number, figures: Figures) => void,
  onRound: (turns: ReadonlyMap<string, readonly Figures[]>) => void,
): Promise<void> {
  const turns = new Map<string, Figures[]>(sides.map(({ name }) => [name, []]));
  for (let repetition = 1; repetition <= repetitions; repetition += 1) {
    for (const side of sides) {
      const figures = await side.measure();
      turns.get(side.name)!.push(figures);
      onTurn(side.name, repetition, figures);
    }
    onRound(turns);
  }
}
