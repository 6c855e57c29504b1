import { expect, it } from 'vitest';
import { type Engine, openChatTemplate, openTokenizer } from '../../../engine/index.js';
import { measureSession, type Stretch } from '../../../loadtest/sessions/measure-session.js';
import { demoFolder } from '../../support/demo.js';
import { demoBlockBytes, withPack } from '../../support/pack-engine.js';

/** The engine, whose figures come when all that ran has left KV memory. */
function withLateStats(engine: Engine): Engine {
  const stats: Engine['stats'] = async () => {
    await expect.poll(async () => (await engine.stats()).slotsOpen).toBe(0);
    return engine.stats();
  };
  return new Proxy(engine, {
    get(of, name) {
      if (name === 'stats') return stats;
      const member: unknown = Reflect.get(of, name);
      return typeof member === 'function' ? member.bind(of) : member;
    },
  });
}

it('knows what a session holds, also when it lies in host memory between two turns', async () => {
  await withPack({}, async (engine) => {
    const template = await openChatTemplate(demoFolder);
    const tokenizer = await openTokenizer(demoFolder);
    const stretches: Stretch[] = [];
    await measureSession(
      withLateStats(engine),
      { tokenizer, template: template! },
      { tokens: 600, turnTokens: 128, distances: [64], seed: 1 },
      (stretch) => stretches.push(stretch),
    );
    expect(stretches).toHaveLength(1);
    const full = (32 + 64) / 32;
    expect(stretches[0]!.heldBytes).toBeGreaterThan(full * demoBlockBytes.bf16 + 4 * demoBlockBytes.int4);
  });
});
