import type { CompiledGrammar } from './compile.js';

/** What the thread that compiles made of a source, or why it cannot be followed. */
export type CompileReply =
  | { readonly compiled: CompiledGrammar }
  | { readonly invalid: { readonly message: string; readonly param: string | undefined } };

/** Its script. It loads nothing else of the engine, so that it is soon there. */
export const compileThread = new URL('./compile-thread.js', import.meta.url);
