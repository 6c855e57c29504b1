/** A grammar that cannot be followed. `path`: where in a schema the fault is. */
export class GrammarError extends Error {
  override readonly name = 'GrammarError';

  constructor(
    message: string,
    readonly path: readonly (string | number)[] = [],
  ) {
    super(message);
  }
}
