import { describe, expect, it } from 'vitest';
import { Settings } from '../../config/schema.js';
import { engineOn } from '../../engine/client.js';
import { DeviceLostError, type Step } from '../../engine/device/device.js';
import { LocalEngine } from '../../engine/engine.js';
import { startProcess } from '../../engine/engine-host.js';
import { ImageStore } from '../../engine/images/image-store.js';
import type { EngineInfo, PromptImage, VisionSpec } from '../../engine/index.js';
import { uniform } from '../../engine/kv/page-classes.js';
import { describeModel } from '../../engine/model/description.js';
import { openTokenizer } from '../../engine/model/tokenizer.js';
import { ChunkedPolicy } from '../../engine/scheduler/policies/chunked.js';
import { demoFolder, goldenCases } from '../support/demo.js';
import { generate, requestFor } from '../support/generate.js';
import { HashingDevice } from '../support/hashing-device.js';

/** Ends each step by itself until it is lost, and then fails every step that runs or comes. */
class FragileDevice extends HashingDevice {
  isLost = false;
  readonly #waiting = new Set<() => void>();
  override readonly prefill = { run: (step: Step) => this.#fragile(() => super.runStep(step)) };
  override readonly decode = this.prefill;

  lose(): void {
    this.isLost = true;
    for (const fail of this.#waiting) fail();
  }

  async #fragile<T>(run: () => Promise<T>): Promise<T> {
    const error = new DeviceLostError('an illegal memory access was encountered');
    if (this.isLost) throw error;
    const lost = new Promise<never>((_, reject) => {
      this.#waiting.add(() => reject(error));
    });
    const ended = run();
    setImmediate(() => {
      if (!this.isLost) for (const end of this.pending.splice(0)) end();
    });
    return Promise.race([ended, lost]);
  }
}

const vision: VisionSpec = {
  ...{ imageSize: 4, patchSize: 2, patchesPerSide: 2, hidden: 2, layers: 1, heads: 1, ffn: 2 },
  ...{ normEps: 1e-6, scaleFactor: 1, imageTokenId: 9, tokensPerTile: 4 },
};
const tilePixels = 3 * vision.imageSize ** 2;

/** A store of images whose encoder is at work until the test lets it go on. */
function imageStore() {
  const waiting: (() => void)[] = [];
  const store = new ImageStore({
    encoder: {
      threads: 1,
      weightBytes: 0,
      encode: () =>
        new Promise((resolve) =>
          waiting.push(() => resolve(new Float32Array(vision.tokensPerTile * vision.hidden))),
        ),
      close: () => undefined,
    },
    vision,
    processing: { longestEdge: 4, tileSize: 4, rescaleFactor: 1, mean: [0, 0, 0], std: [1, 1, 1] },
    hidden: vision.hidden,
    capacityBytes: 1000,
  });
  const encodeTile = async () => {
    await expect.poll(() => waiting.length, { timeout: 60_000 }).toBeGreaterThan(0);
    waiting.shift()!();
  };
  return { store, encodeTile };
}

function imageOf(hash: string): PromptImage {
  return { hash, pixels: new Uint8Array(tilePixels), positions: Int32Array.of(0) };
}

async function openFragile(images?: ImageStore): Promise<{ engine: LocalEngine; device: FragileDevice }> {
  const device = new FragileDevice(64, 4, [uniform('int4')]);
  const info = {
    spec: { ...device.info.spec, vision },
    contextLength: 512,
    eosTokenIds: [],
    device: { ...device.info, notes: [] },
  } as unknown as EngineInfo;
  const scheduling = {
    policy: new ChunkedPolicy(96),
    stepSeconds: () => 0.01,
    constantsOrigin: 'a test',
  };
  const engine = new LocalEngine({
    device,
    tokenizer: await openTokenizer(demoFolder),
    info,
    images,
    prefixCache: true,
    swapBytes: 0,
    ...scheduling,
    reopenScheduling: () => scheduling,
    prefillOrder: 'spf',
    reopenSeconds: 7,
    maxQueue: 100,
    queueTimeoutMs: 0,
    now: () => performance.now(),
  });
  return { engine, device };
}

describe('a device that is lost', () => {
  it('ends every request, running or waiting, with when to come again', async () => {
    const { engine, device } = await openFragile();
    const prompts = Array.from({ length: 6 }, (_, index) => [index + 1, 2, 3]);
    const outcomes = prompts.map((prompt) =>
      generate(engine, requestFor(prompt, { maxTokens: 300, ignoreEos: true }), (count) => {
        if (count === 20) device.lose();
      }).then(
        () => 'done',
        (error) => error,
      ),
    );
    for (const outcome of await Promise.all(outcomes)) {
      expect(outcome).toMatchObject({
        code: 'device_unavailable',
        retryAfterSeconds: 7,
        message: expect.stringContaining('illegal memory access'),
      });
    }
    expect(await engine.lost).toMatchObject({ code: 'device_unavailable', retryAfterSeconds: 7 });
    await expect(generate(engine, requestFor([1]))).rejects.toMatchObject({ code: 'device_unavailable' });
    device.pending.splice(0);
    await engine.close();
  });
});

describe('a device that is lost among images', () => {
  it('ends requests whose images are read and requests whose are not yet, and nothing is kept of either', async () => {
    const { store, encodeTile } = imageStore();
    const { engine, device } = await openFragile(store);
    let onTokens!: () => void;
    const hasTokens = new Promise<void>((resolve) => {
      onTokens = resolve;
    });
    const prompt = new Int32Array(8).fill(vision.imageTokenId);
    const ask = (hash: string, onCount?: () => void) =>
      generate(
        engine,
        requestFor(prompt, { maxTokens: 300, ignoreEos: true, images: [imageOf(hash)] }),
        (count) => {
          if (count > 0) onCount?.();
        },
      ).then(
        () => 'done',
        (error) => error,
      );
    const writing = ask('a', onTokens);
    await encodeTile();
    await hasTokens;
    const encoding = ask('b');
    const queued = ask('c');
    expect((await engine.stats()).images!.heldBytes).toBeGreaterThan(2 * tilePixels);
    device.lose();
    for (const outcome of await Promise.all([writing, encoding, queued])) {
      expect(outcome).toMatchObject({ code: 'device_unavailable', retryAfterSeconds: 7 });
    }
    expect(await ask('a')).toMatchObject({ code: 'device_unavailable' });
    device.pending.splice(0);
    // It waits for the tile that is at work.
    const closed = engine.close();
    await encodeTile();
    await closed;
    expect(store.stats()).toMatchObject({ encoded: 2, heldBytes: 0 });
  });
});

describe('an engine in a process of its own, as on a GPU', async () => {
  const { model, engine: settings } = Settings.parse({
    model: { path: demoFolder },
    engine: { kvMemory: '64MiB', device: 'cpu' },
  });
  const description = await describeModel(model.path);
  const data = { model, engine: settings, description, reportsDecisions: false };

  it('answers as one in a thread, and tells who waits when the process is gone', async () => {
    const host = startProcess(data);
    const engine = await engineOn(host);
    const [golden] = goldenCases();
    const { choices } = await generate(engine, requestFor(golden!.prompt_ids, { maxTokens: 64 }));
    expect(choices[0]!.tokens).toEqual(golden!.greedy_ids);
    const endless = requestFor(golden!.prompt_ids, { maxTokens: 1900, ignoreEos: true });
    let isKilled = false;
    const killed = generate(engine, endless, (count) => {
      if (count < 10 || isKilled) return;
      isKilled = true;
      process.kill(host.pid!, 'SIGKILL');
    });
    await expect(killed).rejects.toMatchObject({
      code: 'engine_failed',
      message: expect.stringContaining('SIGKILL'),
    });
    expect((await engine.lost).code).toBe('engine_failed');
    await engine.close();
  });

  it('ends with the engine', async () => {
    const host = startProcess(data);
    const engine = await engineOn(host);
    await engine.close();
    expect(() => process.kill(host.pid!, 0)).toThrow();
  });

  it('says why it cannot be opened', async () => {
    const broken = { ...model, path: '/nowhere/at/all' };
    const host = startProcess({ ...data, model: broken });
    await expect(engineOn(host)).rejects.toMatchObject({ code: 'model_invalid' });
  });
});
