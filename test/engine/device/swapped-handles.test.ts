import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { SwappedHandles } from '../../../engine/device/swapped-handles.js';

function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
}

describe('swapped handles', () => {
  it('are dropped once, when they are released', () => {
    const dropped: number[] = [];
    const handles = new SwappedHandles((id) => dropped.push(id));
    const handle = handles.add({ id: 7, tokens: 3, bytes: 100 });
    expect([handle.tokens, handle.bytes, handles.idOf(handle)]).toEqual([3, 100, 7]);
    handle.release();
    handle.release();
    expect(dropped).toEqual([7]);
    expect(() => handles.idOf(handle)).toThrow(/released/);
  });

  it('stay when they cannot be dropped now', () => {
    let copying = true;
    const handles = new SwappedHandles(() => {
      if (copying) throw new Error('being copied');
    });
    const handle = handles.add({ id: 1, tokens: 3, bytes: 100 });
    expect(() => handle.release()).toThrow(/being copied/);
    expect(handles.idOf(handle)).toBe(1);
    copying = false;
    handle.release();
    expect(() => handles.idOf(handle)).toThrow(/released/);
  });

  it('are dropped when nobody holds them any more, unless they are gone already', async () => {
    const dropped: number[] = [];
    const handles = new SwappedHandles((id) => dropped.push(id));
    const kept = handles.add({ id: 0, tokens: 1, bytes: 1 });
    (() => {
      handles.add({ id: 1, tokens: 1, bytes: 1 });
      handles.forget(handles.add({ id: 2, tokens: 1, bytes: 1 }));
    })();
    for (let turn = 0; turn < 1000 && dropped.length === 0; turn++) {
      await new Promise((resolve) => setImmediate(resolve));
      collectGarbage();
    }
    expect(dropped).toEqual([1]);
    expect(handles.idOf(kept)).toBe(0);
  });
});
