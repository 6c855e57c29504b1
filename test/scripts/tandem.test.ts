import { spawnSync } from 'node:child_process';
import { readFileSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { Folder, root } from './support.js';

function tandem(args: string[], launcher = path.join(root, 'tandem')) {
  return spawnSync(launcher, args, { encoding: 'utf8', cwd: '/' });
}

describe('./tandem', () => {
  it('lists the commands', () => {
    const { status, stdout } = tandem(['--help']);
    expect(status).toBe(0);
    for (const command of ['serve', 'generate', 'doctor', 'calibrate', 'bench'])
      expect(stdout).toContain(`  ${command} `);
  });

  it('says its version, through a link too, as npx calls it', () => {
    const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
    expect(tandem(['--version']).stdout).toBe(`${version}\n`);
    using folder = new Folder();
    symlinkSync(path.join(root, 'tandem'), folder.at('linked'));
    expect(tandem(['--version'], folder.at('linked')).stdout).toBe(`${version}\n`);
  });

  it('names the nearest command to an unknown one and fails', () => {
    const { status, stdout, stderr } = tandem(['doctro']);
    expect(status).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toContain('unknown command "doctro"; did you mean doctor?');
  });
});
