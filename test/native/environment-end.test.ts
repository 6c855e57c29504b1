import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

/**
 * Threads and processes may end without closing the device, in the middle of a step, a swap or a load. Then native's
 * threads must end too, and nothing may call into JavaScript any more: a mistake here is an abort, so each case is a process.
 */
const engine = JSON.stringify(new URL('../../dist/engine/index.js', import.meta.url).href);
const native = JSON.stringify(new URL('../../dist/engine/device/native.js', import.meta.url).href);
const model = JSON.stringify(fileURLToPath(new URL('../../models/demo', import.meta.url)));
const reader = JSON.stringify(fileURLToPath(new URL('../fixtures/golden/idefics3', import.meta.url)));

const open = `
  import { isMainThread, Worker } from 'node:worker_threads';
  const { openDevice, Want } = await import(${engine});
  const settings = {
    model: { path: ${model}, weights: 'int8', checkFinite: false },
    engine: { kv: 'exact', kvMemory: 2 ** 26, maxSequences: 2, maxStepTokens: 512 },
  };
  const startStep = async () => {
    const { device } = await openDevice(settings);
    device.openSlot(0, {
      temperature: 0, topP: 1, topK: 0, minP: 0, presencePenalty: 0, frequencyPenalty: 0, repetitionPenalty: 1,
      seed: 1n, logitBias: new Map(), minTokens: 0, suppressedBelowMin: new Int32Array(0), logprobs: -1,
      promptTokens: new Int32Array(0), generatedTokens: new Int32Array(0),
    });
    device.kv.reserve(0, 513);
    const running = device.prefill.run({
      slots: Int32Array.of(0), counts: Int32Array.of(512), tokens: new Int32Array(512).fill(100),
      wants: Uint8Array.of(Want.sample),
    });
    return { device, running };
  };
  const startSwap = async () => {
    const { device, running } = await startStep();
    await running;
    const swapped = await device.kv.swapOut(0);
    await device.kv.swapIn(0, swapped);
    return { swapping: device.kv.swapOut(0) };
  };
  const startImage = async () => {
    const { readCheckpoint } = await import(${engine});
    const { openVisionEncoder } = await import(${native});
    const checkpoint = await readCheckpoint(${reader});
    const encoder = openVisionEncoder(checkpoint, { checkFinite: false, threads: 2 });
    const tiles = 400;
    const pixels = new Float32Array(tiles * 3 * checkpoint.spec.vision.imageSize ** 2).fill(0.5);
    return { encoding: encoder.encode(pixels, tiles) };
  };
`;

/** Runs a module in a process of its own. */
function run(body: string) {
  const { status, signal, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', `${open}\n${body}`],
    { encoding: 'utf8' },
  );
  return { status, signal, stderr };
}

const fine = { status: 7, signal: null, stderr: '' };

/** A worker that runs `body` and then says so. */
const inWorker = (body: string) => `
  const worker = new Worker(
    new URL('data:text/javascript,' + encodeURIComponent(${JSON.stringify(`${open}\n${body}`)}
      + "\\n(await import('node:worker_threads')).parentPort.postMessage('begun')")),
  );
  await new Promise((resolve) => worker.once('message', resolve));
`;

describe('without close()', () => {
  it('a process ends in the middle of a step', () => {
    expect(run('await startStep(); process.exit(7);')).toEqual(fine);
  });

  it('a process ends in the middle of a swap', () => {
    expect(run('await startSwap(); process.exit(7);')).toEqual(fine);
  });

  it('a process waits for a swap', () => {
    expect(run('(await startSwap()).swapping.then(() => { process.exitCode = 7; });')).toEqual(fine);
  });

  it('a process ends in the middle of a load', () => {
    expect(run('void openDevice(settings); setImmediate(() => process.exit(7));')).toEqual(fine);
  });

  it('a process ends in the middle of an image, or waits for it', () => {
    expect(run('await startImage(); process.exit(7);')).toEqual(fine);
    expect(run('(await startImage()).encoding.then(() => { process.exitCode = 7; });')).toEqual(fine);
  });

  it('a thread ends in the middle of an image, and the process goes on', () => {
    expect(run(`${inWorker('await startImage();')} await worker.terminate(); process.exit(7);`)).toEqual(
      fine,
    );
  });

  it('a thread ends in the middle of a step, and the process goes on', () => {
    expect(run(`${inWorker('await startStep();')} await worker.terminate(); process.exit(7);`)).toEqual(fine);
  });

  it('a thread ends in the middle of a swap, and the process goes on', () => {
    expect(run(`${inWorker('await startSwap();')} await worker.terminate(); process.exit(7);`)).toEqual(fine);
  });

  it('a thread ends in the middle of a load, and the process goes on', () => {
    expect(
      run(`${inWorker('void openDevice(settings);')} await worker.terminate(); process.exit(7);`),
    ).toEqual(fine);
  });
});
