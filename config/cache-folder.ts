import os from 'node:os';
import path from 'node:path';

/** Where results are kept that can be measured again: `$XDG_CACHE_HOME/tandem`, else `~/.cache/tandem`. */
export function cacheFolder(env: Readonly<Record<string, string | undefined>> = process.env): string {
  const base = env.XDG_CACHE_HOME;
  // The XDG specification: a relative path is invalid and counts as not set.
  return path.join(base && path.isAbsolute(base) ? base : path.join(os.homedir(), '.cache'), 'tandem');
}
