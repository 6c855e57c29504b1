import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

/**
 * Whether node_modules holds what package-lock.json says. npm keeps its own record of what it installed, so this
 * also knows an install that somebody made by hand.
 * @param {string} root
 * @param {{ dev: boolean }} options `dev`: the packages for tests and checks too
 */
export function packagesAreInstalled(root, { dev }) {
  // Only a checkout has the lock file. Installed as a package, its dependencies were installed with it.
  if (!existsSync(path.join(root, 'package-lock.json'))) return true;
  const record = path.join(root, 'node_modules/.package-lock.json');
  if (!existsSync(record)) return false;
  const installed = JSON.parse(readFileSync(record, 'utf8')).packages;
  const wanted = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')).packages;
  return Object.entries(wanted).every(([where, entry]) => {
    // The package itself, and what only other platforms need.
    if (where === '' || entry.optional || entry.devOptional || entry.peer || (entry.dev && !dev)) return true;
    return installed[where]?.version === entry.version;
  });
}
