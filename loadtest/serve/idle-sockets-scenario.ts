import { setTimeout as sleep } from 'node:timers/promises';
import type { WebSocket } from 'ws';
import type { Rows } from '../rows.js';
import { distributionOf, median } from '../statistics.js';
import { BackgroundStreams } from './background-streams.js';
import { longAnswers } from './long-answers.js';
import type { PromptSource } from './prompt-source.js';
import { readMetrics } from './read-metrics.js';
import { openSocket, streamOverSocket } from './socket-stream.js';
import { addGaps } from './stream-rows.js';
import type { ServedModel, Target } from './target.js';

export interface IdleSocketsPlan {
  /** Sockets that stream. */
  readonly streams: number;
  /** Prompts of the streams, in tokens. */
  readonly shortPrompt: number;
  /** Sockets that are open and ask for nothing. */
  readonly idleSockets: number;
  /** Of the phase beside idle sockets. Those without them take a quarter each, and as much goes by before the first. */
  readonly besideSeconds: number;
}

/** Looks at the server's memory in a phase. */
const looks = 30;
/** As many are opened at once. */
const openedAtOnce = 50;

/** What sockets that ask for nothing cost those that stream, and whether the server's memory stays as it is. */
export async function runIdleSockets(
  target: Target,
  model: ServedModel,
  prompts: PromptSource,
  plan: IdleSocketsPlan,
  rows: Rows,
): Promise<void> {
  const { streams: count, idleSockets, besideSeconds } = plan;
  const aloneSeconds = besideSeconds / 4;
  const streams = await BackgroundStreams.start(
    target,
    count,
    longAnswers(model, prompts, plan.shortPrompt),
    streamOverSocket,
  );
  const idle: WebSocket[] = [];
  const phase = async (seconds: number) => {
    const from = performance.now();
    const memory: number[] = [];
    for (let look = 1; look <= looks; look += 1) {
      await sleep(Math.max(0, from + (look / looks) * seconds * 1000 - performance.now()));
      memory.push(await residentMb(target));
    }
    streams.check();
    return { from, to: performance.now(), memory };
  };
  const figuresOf = ({ from, to, memory }: Awaited<ReturnType<typeof phase>>) => {
    const gaps = streams.gapsTouching(from, to);
    return { gaps: distributionOf(gaps), tokensPerSecond: gaps.length / ((to - from) / 1000), memory };
  };
  try {
    const phases = await streams.during(async () => {
      // All began with an empty context; by now some are young and some are old, as they will be.
      await sleep(aloneSeconds * 1000);
      const first = await phase(aloneSeconds);
      for (let open = 0; open < idleSockets; open += openedAtOnce) {
        const size = Math.min(openedAtOnce, idleSockets - open);
        idle.push(...(await Promise.all(Array.from({ length: size }, () => openSocket(target)))));
      }
      const second = await phase(besideSeconds);
      const gone = idle.filter(({ readyState, OPEN }) => readyState !== OPEN).length;
      if (gone > 0) throw new Error(`the server closed ${gone} of ${idleSockets} idle sockets`);
      for (const socket of idle) socket.close();
      return [first, second, await phase(aloneSeconds)] as const;
    });

    const [alone, beside, again] = [figuresOf(phases[0]), figuresOf(phases[1]), figuresOf(phases[2])];
    const others = `beside ${idleSockets} idle sockets`;
    addGaps(rows, `TBT of ${count} streams over sockets`, alone.gaps);
    addGaps(rows, `TBT ${others}`, beside.gaps, alone.gaps);
    addGaps(rows, 'TBT without them again', again.gaps, alone.gaps);
    rows.add('tokens a second', alone.tokensPerSecond, 'tok/s');
    rows.add(`tokens a second ${others}`, beside.tokensPerSecond, 'tok/s', alone.tokensPerSecond);
    rows.add('tokens a second without them again', again.tokensPerSecond, 'tok/s', alone.tokensPerSecond);
    rows.add('resident memory', median(alone.memory.slice(-looks / 3)), 'MB');
    const [before, last] = [beside.memory.slice(looks / 3, (2 * looks) / 3), beside.memory.slice(-looks / 3)];
    rows.add(`resident memory ${others}, last third over the one before`, median(last), 'MB', median(before));
    rows.add('resident memory without them again', median(again.memory.slice(-looks / 3)), 'MB');
  } finally {
    for (const socket of idle) socket.terminate();
  }
}

async function residentMb(target: Target): Promise<number> {
  const metrics = await readMetrics(target);
  return (metrics.get('process_resident_memory_bytes') ?? Number.NaN) / 2 ** 20;
}
