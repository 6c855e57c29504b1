import { type ApiError, invalidRequest } from './errors.js';

const notThere = [
  'functions',
  'function_call',
  'suffix',
  'audio',
  'prediction',
  'web_search_options',
  'use_beam_search',
  'include_stop_str_in_output',
  'bad_words',
  'truncate_prompt_tokens',
  'documents',
];

/** What vLLM, llama-server and the Responses API call what has another name here. */
const otherNames = {
  guided_json: "'response_format'",
  guided_regex: "'grammar'",
  guided_choice: "'grammar'",
  guided_grammar: "'grammar'",
  structured_outputs: "'response_format' or 'grammar'",
  json_schema: "'response_format'",
  allowed_token_ids: "'logit_bias' or 'grammar'",
  prompt_logprobs: "'echo' with 'logprobs' of /v1/completions",
  max_output_tokens: "'max_tokens'",
  n_predict: "'max_tokens'",
  chat_template: "the server's '--chat-template', or 'chat_template_kwargs'",
};

/** Refuses by name what would change the answer and is not there; nothing that matters is ignored in silence. */
export function refuseUnsupported(body: Record<string, unknown>): void {
  for (const name of notThere) {
    if (isAskedFor(body[name])) throw unsupported(name);
  }
  refuseOtherNames(body, otherNames);
  if (Array.isArray(body.modalities) && body.modalities.some((kind) => kind !== 'text')) {
    throw unsupported('modalities', "['text']");
  }
}

/** Of a table from such names to what is to be used. */
export function refuseOtherNames(body: Record<string, unknown>, names: Record<string, string>): void {
  for (const [name, instead] of Object.entries(names)) {
    if (isAskedFor(body[name])) throw unsupported(name, instead);
  }
}

export function unsupported(name: string, instead?: string): ApiError {
  const hint = instead === undefined ? '' : ` Use ${instead}.`;
  return invalidRequest(`'${name}' is not supported.${hint}`, name, 'unsupported_parameter');
}

/** Some clients send all that they know, with values that ask for nothing. */
function isAskedFor(value: unknown): boolean {
  return value != null && value !== '' && value !== false && !(Array.isArray(value) && value.length === 0);
}
