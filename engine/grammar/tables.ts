/** What native follows; see native/grammar/automaton.h. */
export interface GrammarTables {
  readonly byteClasses: Uint8Array;
  readonly next: Int32Array;
  readonly callBegins: Int32Array;
  readonly callRules: Int32Array;
  readonly callReturns: Int32Array;
  readonly accepting: Uint8Array;
  readonly ruleStarts: Int32Array;
}

/** The same in memory that threads share, so that no message copies them. */
export function shared(tables: GrammarTables): GrammarTables {
  return {
    byteClasses: sharedBytes(tables.byteClasses),
    next: sharedInts(tables.next),
    callBegins: sharedInts(tables.callBegins),
    callRules: sharedInts(tables.callRules),
    callReturns: sharedInts(tables.callReturns),
    accepting: sharedBytes(tables.accepting),
    ruleStarts: sharedInts(tables.ruleStarts),
  };
}

function sharedInts(values: Int32Array): Int32Array {
  const copy = new Int32Array(new SharedArrayBuffer(values.byteLength));
  copy.set(values);
  return copy;
}

function sharedBytes(values: Uint8Array): Uint8Array {
  const copy = new Uint8Array(new SharedArrayBuffer(values.byteLength));
  copy.set(values);
  return copy;
}
