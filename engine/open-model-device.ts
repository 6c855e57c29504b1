import path from 'node:path';
import { readCheckpoint } from './model/checkpoint.js';
import { type DeviceSettings, type OpenedDevice, openDeviceFor } from './open-device.js';

/** The demo model's and every other folder's device, ready to run steps. */
export async function openDevice(settings: DeviceSettings): Promise<OpenedDevice> {
  return openDeviceFor(await readCheckpoint(path.resolve(settings.model.path)), settings);
}
