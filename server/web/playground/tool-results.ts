import { h } from '../shared/dom.js';
import type { ToolCall } from './chat-stream.js';
import type { Message } from './conversation.js';

/** A form for what the called tools gave. `onResults` gets a message for each call. */
export function toolResultsForm(
  calls: readonly ToolCall[],
  onResults: (messages: readonly Extract<Message, { role: 'tool' }>[]) => void,
): HTMLFormElement {
  const fields = calls.map(({ id, function: called }, index) => {
    const field = h('textarea', {
      id: `result-${id}`,
      rows: 2,
      required: true,
      placeholder: '{"result": …}',
    });
    const number = calls.length > 1 ? ` (${index + 1} of ${calls.length})` : '';
    return { id, field, label: h('label', { for: `result-${id}` }, `What ${called.name} gave${number}`) };
  });
  const form = h(
    'form',
    {
      class: 'message tool-results',
      onsubmit: (event) => {
        event.preventDefault();
        form.remove();
        onResults(fields.map(({ id, field }) => ({ role: 'tool', tool_call_id: id, content: field.value })));
      },
    },
    ...fields.map(({ label, field }) => h('div', { class: 'field' }, label, field)),
    h('button', { type: 'submit', class: 'primary' }, 'Send results'),
  );
  return form;
}
