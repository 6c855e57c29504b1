import { EngineSettings, ModelSettings } from '../../config/schema.js';
import {
  type ChatTemplate,
  type Device,
  greedySampling,
  openChatTemplate,
  openDevice,
  openTokenizer,
  type Tokenizer,
  Want,
} from '../../engine/index.js';
import { makeRoom, read } from '../device/workloads.js';
import { tokensBefore } from '../quality/held-out-text.js';
import { Random } from '../random.js';

export interface OwnTextPlan {
  /** Tokens of each. */
  readonly tokens: number;
  readonly count: number;
  readonly seed: number;
}

/**
 * Text that the model writes itself: what it finds likely is what its caches will hold. A chat model begins where its
 * template expects a user's message, so that it invents questions and answers them (Magpie, arXiv 2406.08464); others
 * begin with their bos or a token at random.
 */
export async function ownText(
  folder: string,
  { tokens, count, seed }: OwnTextPlan,
  onProgress: (done: number) => void,
): Promise<Int32Array[]> {
  const [tokenizer, template] = await Promise.all([openTokenizer(folder), openChatTemplate(folder)]);
  const { device } = await openDevice({
    model: ModelSettings.parse({ path: folder, weights: 'bf16' }),
    engine: EngineSettings.parse({ maxSequences: count, contextLength: Math.max(32, tokens) }),
  });
  try {
    const random = new Random(seed);
    const start = startOf(tokenizer, template);
    const starts = Array.from({ length: count }, () =>
      start.length > 0 ? start : Int32Array.of(random.below(device.info.spec.vocab)),
    );
    if (start.length >= tokens)
      throw new Error(`the chat template alone has ${start.length} tokens: use a longer --window`);
    return await write(device, starts, tokens, random, onProgress);
  } finally {
    await device.close();
  }
}

function startOf(tokenizer: Tokenizer, template: ChatTemplate | null): Int32Array {
  if (!template) return tokensBefore(tokenizer);
  const mark = '\u0001';
  const rendered = template.render({
    messages: [{ role: 'user', content: mark }],
    addGenerationPrompt: true,
  });
  const [before] = rendered.split(mark);
  return tokenizer.encode(before!, { special: true, addBos: false });
}

async function write(
  device: Device,
  starts: readonly Int32Array[],
  tokens: number,
  random: Random,
  onProgress: (done: number) => void,
): Promise<Int32Array[]> {
  const slots = Int32Array.from(starts.keys());
  const opened: number[] = [];
  const texts = starts.map((start) => {
    const text = new Int32Array(tokens);
    text.set(start);
    return text;
  });
  try {
    device.partition(device.info.units);
    const lengths = starts.map(({ length }) => length);
    for (const slot of slots) {
      device.openSlot(slot, { ...greedySampling, temperature: 1, seed: BigInt(random.uint32()) });
      opened.push(slot);
      makeRoom(device, slot, tokens);
      const first = await read(device, slot, starts[slot]!, Want.sample);
      texts[slot]![lengths[slot]!++] = first.tokens[0]!;
    }
    device.partition(0);
    for (let at = Math.min(...lengths); at < tokens; at += 1) {
      const { tokens: next } = await device.decode.run({
        slots,
        counts: new Int32Array(slots.length),
        tokens: new Int32Array(),
        wants: new Uint8Array(slots.length).fill(Want.sample),
      });
      for (const slot of slots) texts[slot]![at] = next[slot]!;
      onProgress((at + 1) / tokens);
    }
    return texts;
  } finally {
    for (const slot of opened) device.closeSlot(slot);
  }
}
