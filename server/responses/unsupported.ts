import { invalidRequest } from '../openai/errors.js';
import { refuseOtherNames, unsupported } from '../openai/unsupported.js';
import type { ResponseBody } from './schemas.js';

const includes = new Set(['message.output_text.logprobs', 'reasoning.encrypted_content']);

/** What chat completions call what has another name here. */
const otherNames = {
  messages: "'input'",
  max_tokens: "'max_output_tokens'",
  max_completion_tokens: "'max_output_tokens'",
  response_format: "'text.format'",
};

/** Refuses by name what would change a response and is not there. */
export function refuseUnsupported(body: ResponseBody): void {
  if (body.truncation === 'auto') {
    throw invalidRequest(
      "'truncation' can only be 'disabled': nothing is dropped from a conversation. Send fewer items.",
      'truncation',
      'unsupported_parameter',
    );
  }
  if ((body.text?.verbosity ?? 'medium') !== 'medium') throw unsupported('text.verbosity');
  if ((body.reasoning?.effort ?? 'none') !== 'none') throw unsupported('reasoning.effort');
  if (body.reasoning?.summary != null) throw unsupported('reasoning.summary');
  if (body.background) throw unsupported('background');
  for (const name of ['conversation', 'prompt', 'context_management', 'moderation']) {
    if (body[name] != null) throw unsupported(name);
  }
  refuseOtherNames(body, otherNames);
  // What there is to include of reasoning is nothing; clients ask for it of every model.
  const unknown = body.include?.find((name) => !includes.has(name));
  if (unknown !== undefined) {
    throw invalidRequest(`There is no '${unknown}' to include.`, 'include', 'unsupported_parameter');
  }
}

/** HTTP's own fields "MUST NOT be sent" on a socket, says Open Responses; `generate` and lanes are OpenAI's alone. */
export function refuseInFrames(body: ResponseBody): void {
  for (const name of ['stream', 'stream_options', 'background', 'generate', 'stream_id']) {
    if (body[name] !== undefined) {
      throw invalidRequest(`'${name}' is not a field of a response.create frame.`, name);
    }
  }
}
