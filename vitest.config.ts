import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'vitest/config';

const root = path.dirname(fileURLToPath(import.meta.url));

/**
 * Tests import the sources (`../../engine/index.js`) for their types, and run what is shipped: the compiled
 * files in dist/. So worker threads, which need a real JavaScript file, are the same in tests and in use.
 */
const testWhatShips: Plugin = {
  name: 'test-what-ships',
  enforce: 'pre',
  resolveId(source, importer) {
    if (!source.startsWith('.') || !importer?.startsWith(path.join(root, 'test/'))) return null;
    const target = path.relative(root, path.resolve(path.dirname(importer), source));
    if (!/^(config|engine|server|loadtest)\//.test(target)) return null;
    return { id: path.join(root, 'dist', target), external: true };
  },
};

const all = ['test/**/*.test.ts'];
/** They look at the threads or the memory of their whole process. */
const alone = [
  'test/server/grammar/grammar-compiler.test.ts',
  'test/server/grammar/structured-output.test.ts',
  'test/e2e/robustness.test.ts',
];

export default defineConfig({
  plugins: [testWhatShips],
  test: {
    projects: [
      // In as many processes as there are workers: to start one for each file takes as long as a fifth of all tests.
      { extends: true, test: { name: 'together', include: all, exclude: alone, isolate: false } },
      { extends: true, test: { name: 'alone', include: alone } },
    ],
    pool: 'forks',
    maxWorkers: 2,
    // Loaded by Node itself: Vite would otherwise read and transform every compiled file anew for each test file.
    server: { deps: { external: [/\/dist\//] } },
    // They end what hangs. Nothing is timed by them, so a slow and busy machine must not reach them.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    expect: { poll: { timeout: 60_000 } },
  },
});
