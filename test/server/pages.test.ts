import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestServer, testServer } from '../support/server.js';

describe('the pages', () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await testServer({ server: { apiKey: ['key'] } }, false);
  });
  afterAll(() => server.close());
  const get = (path: string, headers = {}) => fetch(server.url + path, { headers });

  it.each(['/', '/dashboard'])(
    '%s needs no key, and runs nothing but what the server sends',
    async (path) => {
      const response = await get(path);
      expect(response.status).toBe(200);
      expect(response.headers.get('content-type')).toContain('text/html');
      const policy = response.headers.get('content-security-policy')!;
      expect(policy).toContain("default-src 'none'");
      expect(policy).toContain("frame-ancestors 'none'");
      expect(policy).not.toContain('unsafe');
      expect(policy).not.toContain('*');
      expect(response.headers.get('x-content-type-options')).toBe('nosniff');
      const html = await response.text();
      expect(html).not.toMatch(/<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|https?:/);
    },
  );

  it('brings all that the documents and their modules name, and none of it is from elsewhere', async () => {
    const waiting = ['/', '/dashboard'];
    const seen = new Set(waiting);
    for (let path = waiting.shift(); path; path = waiting.shift()) {
      const response = await get(path);
      expect([path, response.status]).toEqual([path, 200]);
      const text = await response.text();
      const named = [
        ...text.matchAll(/(?:src|href)="([^"#]+)"/g),
        ...text.matchAll(/(?:^|\n)\s*(?:import|export)\b[^'"\n]*?['"](\.[^'"]+)['"]/g),
        ...(path.endsWith('.css') ? text.matchAll(/url\(([^)]+)\)/g) : []),
      ];
      for (const [, name] of path.includes('/vendor/') ? [] : named) {
        const url = new URL(name!, server.url + path);
        expect(url.origin).toBe(server.url);
        if (!seen.has(url.pathname)) waiting.push(url.pathname);
        seen.add(url.pathname);
      }
    }
    expect(seen).toContain('/assets/playground/main.js');
    expect(seen).toContain('/assets/vendor/uplot.js');
    expect(seen).toContain('/assets/shared/api-key.js');
  });

  it('are asked for again, and sent again only when they have changed', async () => {
    const first = await get('/assets/style.css');
    expect(first.headers.get('cache-control')).toBe('no-cache');
    const again = await get('/assets/style.css', {
      'if-modified-since': first.headers.get('last-modified')!,
      // Or `fetch` asks for it whatever its age.
      'cache-control': 'max-age=0',
    });
    expect(again.status).toBe(304);
  });

  it('leave what is beside them alone', async () => {
    const beside = [
      '/assets/tsconfig.json',
      '/assets/dashboard/main.ts',
      '/assets/dashboard/main.js.map',
      '/assets/../app.js',
      '/assets/%2e%2e/app.js',
      '/assets/..%2fapp.js',
      '/assets/no.js',
      '/playground.html',
    ];
    for (const path of beside) {
      const response = await get(path);
      expect([path, response.status]).toEqual([path, 401]);
      expect((await get(path, { authorization: 'Bearer key' })).status).toBe(404);
    }
  });

  it('take GET alone', async () => {
    const response = await fetch(`${server.url}/dashboard`, {
      method: 'DELETE',
      headers: { authorization: 'Bearer key' },
    });
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')).toBe('GET');
  });
});
