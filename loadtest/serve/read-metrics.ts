import { readText, send } from './http.js';
import type { Target } from './target.js';

/** The figures of `GET /metrics` by name, with labels as they are written there. */
export async function readMetrics(target: Target): Promise<ReadonlyMap<string, number>> {
  const response = await send({ target, method: 'GET', path: '/metrics' });
  return parseMetrics(await readText(response));
}

/** Looks a figure up by its name behind `tandem:`; throws an Error that names what is not there: it is another server then. */
export function figureIn(metrics: ReadonlyMap<string, number>, { url }: Target): (name: string) => number {
  return (name) => {
    const found = metrics.get(`tandem:${name}`);
    if (found === undefined) throw new Error(`${url}/metrics shows no "${name}": is it Tandem?`);
    return found;
  };
}

/** Lines as `name{label="value"} 1.5` of Prometheus' text format. */
function parseMetrics(text: string): Map<string, number> {
  const values = new Map<string, number>();
  for (const line of text.split('\n')) {
    const [, name, value] = /^([^#\s]\S*) (\S+)$/.exec(line) ?? [];
    if (name !== undefined) values.set(name, Number(value));
  }
  return values;
}
