import { afterAll, describe, expect, it } from 'vitest';
import { readGenerationDefaults } from '../../../engine/index.js';
import { modelFolder, refusal, removeFolders } from './model-folder.js';

afterAll(removeFolders);

const read = async (files: Record<string, unknown>) => readGenerationDefaults(await modelFolder(files));

describe('generation defaults', () => {
  it("are the demo model's", async () => {
    expect(await readGenerationDefaults('models/demo')).toEqual({
      eosTokenIds: [3, 1],
      temperature: 0,
      maxNewTokens: 256,
    });
  });

  it('are what generation_config.json says', async () => {
    const generation = {
      do_sample: true,
      temperature: 0.6,
      top_p: 0.9,
      top_k: 20,
      min_p: 0.05,
      repetition_penalty: 1.05,
      eos_token_id: [151645, 151643, 151645],
    };
    expect(await read({ 'generation_config.json': generation, 'config.json': { eos_token_id: 7 } })).toEqual({
      eosTokenIds: [151645, 151643],
      temperature: 0.6,
      topP: 0.9,
      topK: 20,
      minP: 0.05,
      repetitionPenalty: 1.05,
    });
  });

  it("fall back to config.json's eos, then to none", async () => {
    expect(await read({ 'config.json': { eos_token_id: 2 } })).toEqual({ eosTokenIds: [2] });
    const around = { text_config: { eos_token_id: 5 } };
    expect(await read({ 'config.json': around })).toEqual({ eosTokenIds: [5] });
    expect(await read({ 'config.json': { ...around, eos_token_id: 4 } })).toEqual({ eosTokenIds: [4] });
    expect(await read({ 'generation_config.json': {}, 'config.json': { eos_token_id: null } })).toEqual({
      eosTokenIds: [],
    });
    expect(await read({})).toEqual({ eosTokenIds: [] });
  });

  it.each([
    ['generation_config.json', { temperature: 'hot' }, 'temperature'],
    ['generation_config.json', { top_p: 2 }, 'top_p'],
    ['generation_config.json', { eos_token_id: 'x' }, 'eos_token_id'],
    ['generation_config.json', { eos_token_id: [-1] }, 'eos_token_id'],
    ['config.json', { eos_token_id: 1.5 }, 'eos_token_id'],
  ])('refuses %s with %j', async (name, content, part) => {
    const message = await refusal(() => read({ [name]: content }));
    expect(message).toContain(part);
    expect(message).toContain(name);
  });
});
