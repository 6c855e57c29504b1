import { describe, expect, it } from 'vitest';
import { imageSource } from '../../../server/images/image-source.js';
import { grey } from './test-image.js';

const image = grey(40, 40, 90);
const base64 = image.toString('base64');
const bytesOf = (url: string) => Buffer.from(imageSource({ url, detail: 'auto', param: 'here' }).bytes);

describe('the bytes of a data: URL', () => {
  it.each([
    ['a line', `data:image/png;base64,${base64}`],
    ['lines, as base64 and Python write it', `data:image/png;base64,${base64.replace(/.{76}/g, '$&\n')}\n`],
    ['lines of a mail', `data:image/png;base64,${base64.replace(/.{76}/g, '$&\r\n')}\r\n`],
    ['a space behind the comma', `data:image/png;base64, ${base64}`],
    ['a space before base64', `data:image/png; base64,${base64}`],
    ['a parameter', `data:image/png;name=a.png;base64,${base64}`],
    ['no padding', `data:image/png;base64,${base64.replace(/=+$/, '')}`],
    ['the name that many give JPEG', `data:image/jpg;base64,${base64}`],
  ])('are read from %s', (_, url) => {
    expect(bytesOf(url)).toEqual(image);
  });

  it.each([
    [
      'a character that is none of base64',
      `data:image/png;base64,${base64.slice(0, 40)}!${base64.slice(41)}`,
    ],
    ['padding amid it', `data:image/png;base64,${base64.slice(0, 40)}=${base64.slice(41)}`],
  ])('are refused for %s', (_, url) => {
    expect(() => bytesOf(url)).toThrow('is not valid base64');
  });
});
