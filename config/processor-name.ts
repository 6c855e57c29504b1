import os from 'node:os';
import process from 'node:process';

/** On Arm, Node.js knows the models of a table and calls others "unknown": the architecture says more. */
export function processorName(
  model: string | undefined = os.cpus()[0]?.model,
  architecture: string = process.arch,
): string {
  const name = model?.trim() ?? '';
  return name === '' || name === 'unknown' ? `${architecture} processor` : name;
}
