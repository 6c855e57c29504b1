import { describe, expect, it } from 'vitest';
import { addToCalls, type ToolCall } from '../../../server/web/playground/chat-stream.js';

describe('tool calls of a streamed answer', () => {
  it('are put together from who is called and pieces of the arguments', () => {
    const calls: ToolCall[] = [];
    addToCalls(calls, [{ index: 0, id: 'call_1', function: { name: 'add', arguments: '' } }]);
    addToCalls(calls, [{ index: 0, function: { arguments: '{"a": ' } }]);
    addToCalls(calls, [{ index: 0, function: { arguments: '1}' } }]);
    addToCalls(calls, [{ index: 1, id: 'call_2', function: { name: 'now', arguments: '' } }]);
    expect(calls).toEqual([
      { id: 'call_1', type: 'function', function: { name: 'add', arguments: '{"a": 1}' } },
      { id: 'call_2', type: 'function', function: { name: 'now', arguments: '' } },
    ]);
  });
});
