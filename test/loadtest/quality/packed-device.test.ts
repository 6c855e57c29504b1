import { describe, expect, it } from 'vitest';
import { byAttention } from '../../../engine/index.js';
import { randomPrompt } from '../../../loadtest/device/prompts.js';
import { evicting, sinkAndWindow } from '../../../loadtest/quality/baselines.js';
import { bytesPerToken } from '../../../loadtest/quality/footprint.js';
import { openPolicy } from '../../../loadtest/quality/open-policy.js';
import { policyNamed } from '../../../loadtest/quality/policies.js';
import { teacherForce } from '../../../loadtest/quality/teacher-forcing.js';
import { demoFolder } from '../../support/demo.js';

const room = { model: demoFolder, weights: 'int8', sequences: 2, kvTokens: 2048, engine: {} } as const;
const elements = 6 * 4 * 64 * 2;

/** Of a token in a packed page: codes, and a bf16 step and middle for each key channel and value token of 32. */
const packedBytes = (bits: number) => (elements * bits) / 8 + (6 * 4 * 4 * (64 + 32)) / 32;

/** Of one that is int8: codes, and a float32 for each head's key and value. */
const int8Bytes = elements + 6 * 4 * 2 * 4;

describe('a device under a policy that packs', () => {
  it.each([
    ['int4', 4],
    ['int2', 2],
  ] as const)('has all but the recent 64 tokens in %s, and those in int8', async (name, bits) => {
    const device = await openPolicy(policyNamed(name), room);
    try {
      const found = await bytesPerToken(device, randomPrompt(511, 2048, 1));
      // Before the token at position 511 whole pages that are older than 64 tokens are packed.
      expect(found).toBeCloseTo((416 * packedBytes(bits) + 96 * int8Bytes) / 512, 6);
    } finally {
      await device.close();
    }
  });

  it('is the exact one, bit for bit, where zip keeps exactly all that receives attention', async () => {
    const form = { high: 'bf16', low: 'none', pick: byAttention(1) } as const;
    const exact = await openPolicy(policyNamed('exact'), room);
    const kept = await openPolicy({ name: 'kept', settings: {}, form }, room);
    try {
      const window = Int32Array.from(randomPrompt(270, 2048, 3));
      await teacherForce(
        [exact, kept],
        [window],
        ({ logits: [one, other] }) => expect(other).toEqual(one),
        () => {},
      );
    } finally {
      await exact.close();
      await kept.close();
    }
  });

  it('holds the same bytes whether attention or age says which exact pages stay', async () => {
    for (const form of [evicting(0.25), sinkAndWindow(0.25)]) {
      const device = await openPolicy({ name: 'kept', settings: {}, form }, room);
      try {
        const found = await bytesPerToken(device, randomPrompt(511, 2048, 1));
        // Of 13 pages behind the recent ones, which are 3, four stay.
        expect(found).toBeCloseTo((7 * 32 * elements * 2) / 512, 6);
      } finally {
        await device.close();
      }
    }
  });

  it('holds between int2 and int4 under zip', async () => {
    const device = await openPolicy(policyNamed('zip-0.95'), room);
    try {
      const found = await bytesPerToken(device, randomPrompt(511, 2048, 1));
      expect(found).toBeGreaterThan((416 * packedBytes(2) + 96 * int8Bytes) / 512);
      expect(found).toBeLessThan((416 * packedBytes(4) + 96 * int8Bytes) / 512);
    } finally {
      await device.close();
    }
  });

  it('is int8 in a text that goes through decode steps, bit for bit, until tokens are no longer recent', async () => {
    const int8 = await openPolicy(policyNamed('int8'), room);
    const packed = await openPolicy(policyNamed('int2'), room);
    const differs: number[] = [];
    try {
      const window = Int32Array.from(randomPrompt(260, 2048, 2));
      await teacherForce(
        [int8, packed],
        [window],
        ({ position, logits: [one, other] }) => {
          if (one!.some((logit, token) => logit !== other![token])) differs.push(position);
        },
        () => {},
      );
    } finally {
      await int8.close();
      await packed.close();
    }
    // The first pages are packed before the token at position 128, 64 tokens after 64 were there.
    expect(differs[0]).toBe(129);
    expect(differs).toHaveLength(260 - 129);
  });
});
