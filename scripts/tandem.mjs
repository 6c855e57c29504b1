import { existsSync, readFileSync } from 'node:fs';
import process from 'node:process';
import { endProcess } from './end-process.mjs';
import { inRoot } from './paths.mjs';
import { setupOrExit } from './setup.mjs';

const commands = {
  serve: { module: 'server/commands/serve.js', does: 'serve a model over HTTP (npm start does the same)' },
  generate: { module: 'server/commands/generate.js', does: 'one completion, or a chat, in the terminal' },
  doctor: {
    module: 'server/commands/doctor.js',
    does: 'what was found on this machine, and what to do about it',
  },
  calibrate: {
    module: 'loadtest/commands/calibrate.js',
    does: 'measure this device with a model, so that the scheduler can foresee its steps',
  },
  convert: {
    module: 'loadtest/commands/convert.js',
    does: 'rewrite a model so that it takes less memory: fewer KV heads',
  },
  bench: { module: 'loadtest/commands/bench.js', does: 'measure a server, the engine alone, or a peer' },
  simulate: {
    module: 'loadtest/commands/simulate.js',
    does: 'run the scheduler in virtual time, on a simulated GPU or on this machine',
  },
};

endProcess(await main(process.argv.slice(2)));

async function main([name, ...args]) {
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    process.stdout.write(help());
    return name === undefined ? 1 : 0;
  }
  if (name === '--version' || name === '-V') {
    process.stdout.write(`${JSON.parse(readFileSync(inRoot('package.json'), 'utf8')).version}\n`);
    return 0;
  }
  if (!Object.hasOwn(commands, name)) {
    process.stderr.write(`tandem: unknown command "${name}"${await suggestion(name)}\n\n${help()}`);
    return 1;
  }
  await setupOrExit();
  const { run } = await import(inRoot('dist', commands[name].module));
  return run(args);
}

async function suggestion(name) {
  const compiled = inRoot('dist/config/nearest.js');
  if (!existsSync(compiled)) return '';
  const { didYouMean } = await import(compiled);
  return didYouMean(name, Object.keys(commands));
}

function help() {
  const rows = Object.entries(commands).map(([name, { does }]) => `  ${name.padEnd(11)}${does}\n`);
  return `Usage: tandem <command> [options]\n\n${rows.join('')}\ntandem <command> --help lists a command's options.\n`;
}
