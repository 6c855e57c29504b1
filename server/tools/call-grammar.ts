import type { GrammarPart } from '../../engine/index.js';
import type { FunctionTool } from './prepare-tools.js';
import type { ToolCallFormatName } from './tool-call-format.js';

export interface CallGrammarOptions {
  readonly format: ToolCallFormatName;
  readonly functions: readonly CallableFunction[];
  /** An answer is one or more calls and nothing else; else it may also be text, with calls in it. */
  readonly forced: boolean;
  /** No more than one call. */
  readonly single: boolean;
}

export interface CallableFunction {
  readonly tool: FunctionTool;
  /** Where its parameters came from, for errors. */
  readonly param: string;
}

/** What answers follow so that their calls are calls of these functions, with arguments that fit. */
export function callGrammar({ format, functions, forced, single }: CallGrammarOptions): GrammarPart {
  const more = (part: GrammarPart): GrammarPart[] => (single ? [] : [{ type: 'repeat', part, least: 0 }]);
  switch (format) {
    case 'hermes': {
      const open = '<tool_call>';
      const call = sequence(text(`${open}\n`), jsonCall(functions, 'arguments'), text('\n</tool_call>'));
      if (forced) return sequence(call, ...more(sequence(text('\n'), call)));
      const other: GrammarPart = { type: 'without', text: open };
      return sequence(other, optional(call, other), ...more(sequence(call, other)));
    }
    case 'llama': {
      const call = jsonCall(functions, 'parameters');
      const calls = sequence(call, ...more(sequence(text(';'), space, call)));
      return forced ? calls : choice(calls, { type: 'notBeginning', characters: '{' });
    }
    case 'mistral': {
      const open = '[TOOL_CALLS]';
      const call = jsonCall(functions, 'arguments');
      const list = sequence(text(`${open}[`), call, ...more(sequence(text(', '), call)), text(']'));
      // The later templates have the name, and perhaps an id, before the arguments.
      const named = sequence(text(open), choice(...functions.map(namedCall)));
      const calls = choice(list, sequence(named, ...more(named)));
      return forced ? calls : sequence({ type: 'without', text: open }, optional(calls));
    }
  }
}

const space: GrammarPart = { type: 'space' };

function jsonCall(functions: readonly CallableFunction[], key: string): GrammarPart {
  return choice(
    ...functions.map((callable) =>
      sequence(text(`{"name": "${callable.tool.name}", "${key}": `), argumentsOf(callable), space, text('}')),
    ),
  );
}

function namedCall(callable: CallableFunction): GrammarPart {
  return sequence(text(callable.tool.name), optional(text('[ARGS]')), argumentsOf(callable));
}

function argumentsOf({ tool, param }: CallableFunction): GrammarPart {
  if (!tool.parameters) return { type: 'json' };
  // Arguments are an object, whatever else the schema allows.
  const schema = { ...tool.parameters, type: 'object' };
  return { type: 'schema', schema, lenient: tool.strict !== true, param };
}

function text(value: string): GrammarPart {
  return { type: 'text', text: value };
}

function sequence(...parts: readonly GrammarPart[]): GrammarPart {
  return { type: 'sequence', parts };
}

function choice(...options: readonly GrammarPart[]): GrammarPart {
  return { type: 'choice', options };
}

function optional(...parts: readonly GrammarPart[]): GrammarPart {
  return choice(sequence(), sequence(...parts));
}
