import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve('../shared/data');

/** Third-party test data lies beside the project, not in it; tests that need it skip and say so where it is not. */
export const haveSharedData =
  existsSync(path.join(root, 'tokenizers')) && existsSync(path.join(root, 'chat_templates'));

export const sharedPath = (name: string) => path.join(root, name);

export const sharedBytes = (name: string) => readFileSync(sharedPath(name));

export const sharedText = (name: string) => readFileSync(sharedPath(name), 'utf8');

export const sharedJson = <T>(name: string) => JSON.parse(sharedText(name)) as T;

/** A title that says why its tests did not run. */
export const titled = (title: string) =>
  haveSharedData ? title : `${title} (skipped: ../shared/data is not here)`;
