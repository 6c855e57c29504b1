import { cacheFolder } from '../../config/cache-folder.js';
import type { Settings } from '../../config/schema.js';
import { saveConstants } from '../../engine/calibration/stored-constants.js';
import type { DeviceInfo } from '../../engine/device/device.js';
import { cpuInfo } from '../../engine/device/native.js';
import { readCheckpoint } from '../../engine/model/checkpoint.js';
import { presetFor } from '../../engine/scheduler/presets.js';

/**
 * Keeps constants for this machine and model as if `tandem calibrate` had found them, in the cache folder of the
 * environment: the preset's, since tests must not depend on how fast a machine is.
 */
export async function pretendCalibrated(
  { model, engine }: Pick<Settings, 'model' | 'engine'>,
  device?: Pick<DeviceInfo, 'kind' | 'name' | 'isa' | 'units'>,
): Promise<void> {
  const { spec } = await readCheckpoint(model.path);
  const { name, cores, isas } = cpuInfo();
  const found = device ?? {
    kind: 'cpu' as const,
    name,
    isa: engine.isa ?? isas[0]!,
    units: engine.cores ?? cores,
  };
  const key = { device: found, spec, weights: model.weights };
  saveConstants(cacheFolder(), key, presetFor(found, model.weights));
}
