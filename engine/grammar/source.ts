/** What an answer has to follow, as plain data. */
export type GrammarSource =
  | { readonly type: 'gbnf'; readonly text: string; readonly param?: string }
  | GrammarPart;

export type GrammarPart =
  /** Any JSON object. */
  | { readonly type: 'json' }
  /** `lenient`: keywords that cannot be enforced are left to the model. `param`: where the schema came from, for errors. */
  | { readonly type: 'schema'; readonly schema: unknown; readonly lenient: boolean; readonly param?: string }
  | { readonly type: 'text'; readonly text: string }
  /** Any text in which this one does not occur. */
  | { readonly type: 'without'; readonly text: string }
  /** Any text that does not begin with one of these characters, space before them included. */
  | { readonly type: 'notBeginning'; readonly characters: string }
  | { readonly type: 'space' }
  | { readonly type: 'sequence'; readonly parts: readonly GrammarPart[] }
  | { readonly type: 'choice'; readonly options: readonly GrammarPart[] }
  | { readonly type: 'repeat'; readonly part: GrammarPart; readonly least: number };
