import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { options } from '../../config/options.js';
import { Metrics } from '../../server/metrics.js';
import { idleStats } from '../support/idle-stats.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const read = (file: string) => readFileSync(path.join(root, file), 'utf8');

interface Panel {
  readonly title: string;
  readonly type: string;
  readonly targets?: readonly { readonly expr: string }[];
}

let published: Set<string>;
let labels: Map<string, Set<string>>;
beforeAll(async () => {
  const text = await new Metrics().text(idleStats);
  const names = [...text.matchAll(/^# TYPE (\S+) (\w+)$/gm)].flatMap(([, name, type]) =>
    type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name!],
  );
  published = new Set(names);
  labels = new Map();
  for (const [, name, inside] of text.matchAll(/^([\w:]+)\{([^}]*)\}/gm)) {
    const found = labels.get(name!) ?? new Set<string>();
    for (const [, label] of inside!.matchAll(/(\w+)=/g)) found.add(label!);
    labels.set(name!, found);
  }
});

/** Metrics that an expression of Prometheus names. */
function namesIn(expr: string): string[] {
  return [...expr.matchAll(/\b(tandem:\w+|process_\w+|nodejs_\w+)/g)].map(([, name]) => name!);
}

describe('docs/grafana-dashboard.json', () => {
  const { panels } = JSON.parse(read('docs/grafana-dashboard.json')) as { panels: Panel[] };
  const shown = panels.filter(({ type }) => type !== 'row');

  it('asks for metrics that the server has, in every panel', () => {
    expect(shown.length).toBeGreaterThan(20);
    for (const { title, targets = [] } of shown) {
      for (const { expr } of targets) {
        const names = namesIn(expr);
        expect([title, names.length > 0]).toEqual([title, true]);
        expect([title, names.filter((name) => !published.has(name))]).toEqual([title, []]);
      }
    }
  });

  it('divides by labels that the metrics have', () => {
    for (const { title, targets = [] } of shown) {
      for (const { expr } of targets) {
        for (const [, label] of expr.matchAll(/sum by \((\w+)\)/g)) {
          // Counters with labels show nothing until they have counted.
          const known = namesIn(expr).flatMap((name) => [
            ...(labels.get(name) ?? ['status', 'code', 'finished_reason']),
          ]);
          expect([title, known.includes(label!)]).toEqual([title, true]);
        }
      }
    }
  });
});

describe('deploy/', () => {
  it('alerts on metrics that the server has, each of which docs/operations.md explains', () => {
    const rules = read('deploy/alerts.yml');
    const page = read('docs/operations.md');
    const alerts = [...rules.matchAll(/- alert: (\w+)\n\s+expr: (.*)/g)];
    expect(alerts.length).toBeGreaterThan(5);
    for (const [, alert, expr] of alerts) {
      expect([alert, namesIn(expr!).filter((name) => !published.has(name))]).toEqual([alert, []]);
      expect(page).toContain(`| \`${alert}\` |`);
    }
  });

  it.each(['deploy/tandem.service', 'deploy/Dockerfile', 'deploy/Dockerfile.cuda'])(
    '%s names only flags and environment variables that there are',
    (file) => {
      const text = read(file).replace(/^(#.*|.*(apt-get|COPY|HEALTHCHECK).*)$/gm, '');
      const flags = [...text.matchAll(/(?<=\s)--([a-z][a-z-]+)/g)].map(([, flag]) => flag!);
      const known = ['config', ...options.map(({ flag }) => flag)];
      expect(flags.filter((flag) => !known.includes(flag))).toEqual([]);
      const variables = [...text.matchAll(/\b(TANDEM_\w+)=/g)].map(([, name]) => name!);
      const there = ['TANDEM_CUDA', ...options.map(({ env }) => env)];
      expect(variables.filter((name) => !there.includes(name))).toEqual([]);
    },
  );

  it('builds images from files that there are', () => {
    for (const file of ['deploy/Dockerfile', 'deploy/Dockerfile.cuda']) {
      for (const [, script] of read(file).matchAll(/node (scripts\/\S+)/g)) {
        expect(existsSync(path.join(root, script!))).toBe(true);
      }
    }
    // What is left out of the context is nothing that packing needs.
    const ignored = read('.dockerignore').trim().split('\n');
    for (const needed of ['native', 'scripts', 'server', 'engine', 'config', 'loadtest', 'models']) {
      expect(ignored).not.toContain(needed);
    }
  });
});
