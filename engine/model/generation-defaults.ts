import path from 'node:path';
import { z } from 'zod';
import { eosTokenIds } from './config.js';
import { invalidModel, readJsonIfThere } from './model-files.js';
import type { GenerationDefaults } from './text.js';

const maxBytes = 4 * 1024 * 1024;

const Generation = z.looseObject({
  do_sample: z.boolean().nullish(),
  temperature: z.number().min(0).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  top_k: z.int().min(0).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  repetition_penalty: z.number().positive().nullish(),
  max_new_tokens: z.int().positive().nullish(),
  eos_token_id: z.unknown().optional(),
});

/**
 * How the model's makers would sample, from `generation_config.json`. An explicit `do_sample: false` is temperature 0.
 * Its eos ids come before those of `config.json`, as in transformers.
 */
export async function readGenerationDefaults(folder: string): Promise<GenerationDefaults> {
  const file = path.resolve(folder, 'generation_config.json');
  const parsed = Generation.safeParse((await readJsonIfThere(file, maxBytes)) ?? {});
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw invalidModel(file, `${issue?.path.join('.') || 'value'}: ${issue?.message}`);
  }
  const from = parsed.data;
  const temperature = from.do_sample === false ? 0 : from.temperature;
  return {
    eosTokenIds: eosTokenIds(file, from.eos_token_id) ?? (await configEosTokenIds(folder)),
    ...(temperature != null && { temperature }),
    ...(from.top_p != null && { topP: from.top_p }),
    ...(from.top_k != null && { topK: from.top_k }),
    ...(from.min_p != null && { minP: from.min_p }),
    ...(from.repetition_penalty != null && { repetitionPenalty: from.repetition_penalty }),
    ...(from.max_new_tokens != null && { maxNewTokens: from.max_new_tokens }),
  };
}

async function configEosTokenIds(folder: string): Promise<number[]> {
  const file = path.resolve(folder, 'config.json');
  interface Config {
    readonly eos_token_id?: unknown;
    /** Where the model reads images too. */
    readonly text_config?: Config | null;
  }
  const config = (await readJsonIfThere(file, maxBytes)) as Config | null | undefined;
  return (
    eosTokenIds(file, config?.eos_token_id) ?? eosTokenIds(file, config?.text_config?.eos_token_id) ?? []
  );
}
