import { cpuInfo, cudaInfo } from '../../engine/index.js';
import { configOf, modelCommand, runCommand } from './command.js';
import { gatherFacts } from './doctor-facts.js';
import { type Finding, judge } from './doctor-findings.js';

/** `tandem doctor`: what was found and what to do about it. Resolves to 1 when something keeps Tandem from running. */
export function run(argv: readonly string[]): Promise<number> {
  const command = modelCommand(
    'doctor',
    'What was found on this machine, whether the model can run, and what to do about what cannot.',
    ['model', 'engine'],
  );
  return runCommand(command, argv, async () => {
    const { model, engine } = configOf(command).settings;
    const facts = await gatherFacts(model, () => cpuInfo().isas, cudaInfo, engine);
    const findings = judge(facts);
    process.stdout.write(`${findings.map(print).join('\n')}\n`);
    const problems = findings.filter(({ level }) => level === 'problem').length;
    process.stdout.write(
      problems === 0 ? '\nTandem can run here.\n' : `\n${problems} to mend before Tandem can run.\n`,
    );
    return problems === 0 ? 0 : 1;
  });
}

const marks: Record<Finding['level'], string> = { ok: '  ok     ', hint: '  hint   ', problem: '  PROBLEM' };

function print({ level, subject, found, advice }: Finding): string {
  const line = `${marks[level]} ${subject.padEnd(16)} ${found}`;
  return advice === undefined ? line : `${line}\n${' '.repeat(27)}-> ${advice}`;
}
