import { existsSync, rmSync } from 'node:fs';
import path from 'node:path';
import { listFiles } from './freshness.mjs';

/** Removes compiled files whose source is gone, which `tsc -b` leaves behind and imports would still find. */
export function removeStaleOutputs(root, folders) {
  for (const folder of folders) {
    const compiled = path.join(root, 'dist', folder);
    for (const file of listFiles(compiled, /\.(js|d\.ts)(\.map)?$/)) {
      const source = path.join(
        root,
        folder,
        path.relative(compiled, file).replace(/(\.d\.ts|\.js)(\.map)?$/, '.ts'),
      );
      if (!existsSync(source)) rmSync(file);
    }
  }
}

/** Whether a source has no compiled file, which `tsc -b` does not notice while its build info says up to date. */
export function outputsAreMissing(root, folders) {
  return folders.some((folder) =>
    listFiles(path.join(root, folder), /(?<!\.d)\.ts$/).some((file) => {
      const compiled = path.join(root, 'dist', path.relative(root, file)).replace(/\.ts$/, '.js');
      return !existsSync(compiled);
    }),
  );
}
