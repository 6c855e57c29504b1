import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Folder } from '../../scripts/support.js';
import { makeVisionModel } from '../../support/vision-model.js';
import { TandemProcess } from '../commands/tandem-process.js';
import { dataUrl, grey } from './test-image.js';

/** An installation without the packages of sharp for any platform, in every thread. */
const hidden = `
  const Module = require('node:module');
  const resolve = Module._resolveFilename;
  Module._resolveFilename = function (name, ...rest) {
    if (name.startsWith('@img/sharp-')) {
      throw Object.assign(new Error("Cannot find module '" + name + "'"), { code: 'MODULE_NOT_FOUND' });
    }
    return resolve.call(this, name, ...rest);
  };`;

let folder: Folder;
let model: string;
let env: Record<string, string>;
beforeAll(() => {
  folder = new Folder({ 'hide-sharp.cjs': hidden });
  model = folder.at('model');
  makeVisionModel(model);
  env = { NODE_OPTIONS: `--require ${folder.at('hide-sharp.cjs')}` };
});
afterAll(() => folder.close());

describe('where sharp does not load', () => {
  it('the server says so, serves texts, and refuses images with what is missing and how to get it', async () => {
    const server = new TandemProcess(['serve', model, '--port', '0'], { env });
    try {
      const [, url] = await server.until('stdout', /^Tandem serves model on (http:\/\/\S+)/);
      await server.until('stderr', /Images cannot be read here.*Texts are served all the same/);
      const ask = (...content: object[]) =>
        fetch(`${url}/v1/chat/completions`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ messages: [{ role: 'user', content }], max_tokens: 2 }),
        });
      const text = { type: 'text', text: 'What is it?' };
      const image = { type: 'image_url', image_url: { url: dataUrl(grey(8, 8, 9)) } };
      // However often it is asked.
      for (let turn = 0; turn < 2; turn++) {
        const refused = await ask(text, image);
        expect(refused.status).toBe(500);
        expect(await refused.json()).toMatchObject({
          error: {
            code: 'image_decoder_missing',
            message: expect.stringMatching(/'sharp'.*Could not load.*npm ci --include=optional/),
          },
        });
        expect((await ask(text)).status).toBe(200);
      }
    } finally {
      await server.kill();
    }
  });

  it('doctor says what to do', async () => {
    const doctor = new TandemProcess(['doctor', model], { env });
    await doctor.exit;
    expect(doctor.stdout).toMatch(/hint +images +cannot be read: the package 'sharp'.*Could not load/);
    expect(doctor.stdout).toMatch(/-> install it .*npm ci --include=optional/);
  });
});
