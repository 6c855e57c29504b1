import type { CompiledGrammar } from './compile.js';

/** What the thread that compiles made of a source, or why it cannot be followed. */
export type CompileReply =
  | { readonly compiled: CompiledGrammar }
  | { readonly invalid: { readonly message: string; readonly param: string | undefined } }
  /** More than the thread's effort. */
  | { readonly tooMuch: true }
  /** It was not begun. */
  | { readonly givenUp: true };

/** What a thread that compiles is started with. */
export interface CompileSettings {
  /** Takes the system's number of the thread, on Linux. */
  readonly thread: Int32Array;
  /** Steps for a grammar; without a bound the thread goes behind others. */
  readonly effort: number | undefined;
}

/** Its script. It loads nothing else of the engine, so that it is soon there. */
export const compileThread = new URL('./compile-thread.js', import.meta.url);
