import type { StepResult } from './device/device.js';
import type { Tokenizer } from './model/text.js';
import { tokenLogprob } from './sampling/logprobs.js';
import type { StopOutcome } from './sampling/stop-conditions.js';
import type { Sequence } from './sequence.js';

/**
 * What a step sampled for its part `entry` joins the sequence, and goes to who asked for it, with the text that is certain by
 * now. Returns how the sequence ends, if it does.
 */
export function acceptToken(
  sequence: Sequence,
  entry: number,
  result: StepResult,
  tokenizer: Tokenizer,
): StopOutcome['finish'] {
  const { request, choice, stream, stops } = sequence;
  const token = result.tokens[entry]!;
  sequence.push(token);
  request.completionTokens++;
  const before = sequence.decodedLength;
  const { text, finish } = stops.next(
    token,
    (id) => sequence.decode(id),
    () => stream.end(),
  );
  const logprobs =
    request.request.logprobs < 0
      ? undefined
      : [
          tokenLogprob(
            tokenizer,
            token,
            result.logprobs[entry]!,
            { before, after: sequence.decodedLength },
            result.topLogprobs.get(entry),
          ),
        ];
  request.emit({ type: 'tokens', choice, text, tokens: [token], ...(logprobs && { logprobs }) });
  return finish;
}
