import { readdirSync, readFileSync } from 'node:fs';

/** On Linux, of each thread of this process: its nice value, and whether it runs only where a core would be idle (SCHED_IDLE). */
export function threads(): { nice: number; isIdle: boolean }[] {
  return readdirSync('/proc/self/task').map((thread) => {
    const stat = readFileSync(`/proc/self/task/${thread}/stat`, 'utf8');
    // The name before it may hold spaces; the fields behind it are numbered from 3 in proc(5).
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { nice: Number(fields[19 - 3]), isIdle: fields[41 - 3] === '5' };
  });
}
