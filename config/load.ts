import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { packageRoot } from './package-root.js';
import { ConfigError, type ResolvedConfig, resolveConfig } from './resolve.js';

export interface LoadOptions {
  /** Values of flags that were given, by key. */
  readonly flags: Readonly<Record<string, unknown>>;
  /** `--config`; absent: `TANDEM_CONFIG`, else `tandem.config.json` of the working folder where there is one. */
  readonly configFile?: string | undefined;
}

/** Reads what this process was given (flags, environment, file) and resolves it. Throws `ConfigError`. */
export function loadConfig({ flags, configFile }: LoadOptions): ResolvedConfig {
  const cwd = process.cwd();
  const named = configFile ?? (process.env.TANDEM_CONFIG || undefined);
  const filePath = path.resolve(cwd, named ?? 'tandem.config.json');
  if (named !== undefined && !existsSync(filePath))
    throw new ConfigError([`config file ${named} does not exist`]);
  const file = existsSync(filePath) ? { path: filePath, content: readJson(filePath) } : undefined;
  return resolveConfig({ flags, env: process.env, ...(file ? { file } : {}), cwd, packageRoot });
}

function readJson(filePath: string): unknown {
  try {
    return JSON.parse(readFileSync(filePath, 'utf8'));
  } catch (error) {
    throw new ConfigError([`${filePath}: ${(error as Error).message}`]);
  }
}
