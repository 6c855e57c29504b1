// Runs a compiled command as `./tandem` does, without the set-up that goes before it.
const [name, ...args] = process.argv.slice(2);
const part = ['bench', 'convert'].includes(name) ? 'loadtest' : 'server';
const { run } = await import(new URL(`../../../dist/${part}/commands/${name}.js`, import.meta.url));
process.exitCode = await run(args);
