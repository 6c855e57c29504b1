import { describe, expect, it } from 'vitest';
import { cudaInfo } from '../../engine/device/native.js';

describe('what the addon finds of CUDA', () => {
  it('is devices or the reason why there are none, on a machine with or without a driver', () => {
    const { built, driverVersion, runtimeVersion, problem, devices } = cudaInfo();
    expect(devices.length > 0).toBe(problem === '');
    expect(built).toBe(runtimeVersion !== '');
    if (driverVersion !== '') expect(driverVersion).toMatch(/^\d+\.\d+$/);
    for (const { sms, smallestGroup, whyNoSplit } of devices) {
      expect(sms).toBeGreaterThan(0);
      expect(smallestGroup > 0).toBe(whyNoSplit === '');
    }
  });
});
