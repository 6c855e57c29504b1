import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { snippets } from '../../../server/web/playground/snippets.js';

const body = {
  model: 'demo',
  messages: [{ role: 'user', content: `it's $HOME "and" \\ \`ls\`\n'; exit 1; '` }],
  stream: true,
};
const url = 'http://127.0.0.1:8000';

describe('a request as code', () => {
  it('is one command of a shell, whatever the message holds', () => {
    const text = snippets.curl({ url, body, hasKey: false });
    // A curl that shows its arguments.
    const shown = spawnSync('sh', ['-c', `curl() { printf '%s\\0' "$@"; }\n${text}`], { encoding: 'utf8' });
    const args = shown.stdout.split('\0').slice(0, -1);
    expect(shown.status).toBe(0);
    expect(args.slice(0, -1)).toEqual([
      '-N',
      `${url}/v1/chat/completions`,
      '-H',
      'content-type: application/json',
      '-d',
    ]);
    expect(JSON.parse(args.at(-1)!)).toEqual(body);
  });

  it('holds no key, but where it comes from', () => {
    for (const snippet of Object.values(snippets)) {
      expect(snippet({ url, body, hasKey: true })).toContain('TANDEM_API_KEY');
      expect(snippet({ url, body, hasKey: false })).not.toContain('TANDEM_API_KEY');
    }
  });
});
