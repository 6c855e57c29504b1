import { byId, h, setText } from '../shared/dom.js';
import { formatBytes, formatCount, formatMs } from '../shared/format.js';
import { KeyDialog } from '../shared/key-dialog.js';
import { type Model, servedModels } from '../shared/models.js';
import { ServerError } from '../shared/server-error.js';
import { AnswerView, errorBox } from './answer-view.js';
import { type Attachment, Attachments } from './attachments.js';
import { streamChat, type Usage } from './chat-stream.js';
import { type ContentPart, Conversation, type Message } from './conversation.js';
import { InvalidSetting, Settings } from './settings.js';
import { SnippetDialog } from './snippet-dialog.js';
import { StreamTiming } from './stream-timing.js';
import { toolResultsForm } from './tool-results.js';

/** How often a server that is not ready is asked again. */
const retryMs = 1500;

const transcript = byId('transcript');
const prompt = byId<HTMLTextAreaElement>('prompt');
const sendButton = byId<HTMLButtonElement>('send');
const stopButton = byId<HTMLButtonElement>('stop');
const againButton = byId<HTMLButtonElement>('again');
const settings = new Settings();
const conversation = new Conversation(transcript);
const keyDialog = new KeyDialog(() => void findModels());
const snippetDialog = new SnippetDialog();
const attachments = new Attachments({
  shown: () => conversation.images,
  onChange: update,
  onProblem: (problem) => byId('complaint').replaceChildren(errorBox(new Error(problem))),
});

/** Of the answer that streams now. */
let running: AbortController | undefined;
let findsModels = false;

/** Asks what is served until something is. */
async function findModels(): Promise<void> {
  if (findsModels) return;
  findsModels = true;
  const models = await servedModels().catch((error: ServerError) => error);
  findsModels = false;
  if (Array.isArray(models)) {
    settings.setModels(models.map(({ id }) => id));
    showStatus(models[0]);
    if (models.length > 0) return;
  } else if (models.status === 401) {
    setStatus('locked', 'API key needed');
    keyDialog.ask(models.message);
    return;
  } else {
    setStatus('lost', models.status === 0 ? 'Server not reached' : models.message);
  }
  setTimeout(() => void findModels(), retryMs);
}

function showStatus(model: Model | undefined): void {
  if (!model) {
    setStatus('loading', 'Loading the model');
    return;
  }
  const { device, weights, kv, images } = model.tandem;
  attachments.setLimits(images);
  setStatus('ready', 'Ready');
  setText(
    byId('facts'),
    `${device.name}, ${device.isa} · ${weights} weights · KV cache ${kv.precision}, ${formatBytes(kv.bytes)} · ` +
      `context ${formatCount(model.max_model_len)}`,
  );
}

function setStatus(state: string, text: string): void {
  byId('status').dataset.state = state;
  setText(byId('status-text'), text);
}

function requestBody(messages: readonly Message[]): Record<string, unknown> {
  return {
    ...settings.fields(),
    messages: [...settings.system(), ...messages],
    stream: true,
    stream_options: { include_usage: true },
  };
}

/** The settings' part of what is to be sent; undefined where one of them is wrong, which is shown. */
function checkedBody(messages: readonly Message[]): Record<string, unknown> | undefined {
  const complaint = byId('complaint');
  try {
    const body = requestBody(messages);
    complaint.replaceChildren();
    return body;
  } catch (error) {
    complaint.replaceChildren(errorBox(error as Error));
    if (error instanceof InvalidSetting) {
      openSettings(true);
      error.field.closest('details')?.setAttribute('open', '');
      error.field.focus();
    }
    return undefined;
  }
}

/** What is written and attached, as the next message; undefined where that is nothing. */
function written(): Message | undefined {
  const text = prompt.value;
  const images = attachments.all.map(({ url }): ContentPart => ({ type: 'image_url', image_url: { url } }));
  const isBlank = text.trim() === '';
  if (images.length === 0) return isBlank ? undefined : { role: 'user', content: text };
  return { role: 'user', content: isBlank ? images : [...images, { type: 'text', text }] };
}

/** A message of a person as the conversation shows it. */
function messageElement(text: string, images: readonly Attachment[]): HTMLElement {
  const element = h('article', { class: 'message user', 'aria-label': 'You' });
  const said = text.trim() === '' ? undefined : h('p', {}, text);
  if (images.length === 0) element.append(said ?? '');
  else {
    const pictures = h('div', { class: 'pictures' }, ...images.map(({ picture }) => picture));
    element.append(h('div', { class: 'said' }, pictures, said));
  }
  return element;
}

function ask(): void {
  const content = prompt.value;
  const message = written();
  if (!message || running || attachments.isReading) return;
  const body = checkedBody([...conversation.messages, message]);
  if (!body) return;
  const images = attachments.take();
  const element = messageElement(content, images);
  const edit = h('button', { type: 'button', class: 'quiet' }, 'Edit');
  edit.addEventListener('click', () => {
    running?.abort();
    conversation.removeFrom(element);
    prompt.value = content;
    attachments.put(images);
    prompt.focus();
    update();
  });
  element.append(edit);
  conversation.add(message, element);
  prompt.value = '';
  void answer(body);
}

function answerAgain(): void {
  if (running) return;
  conversation.removeAnswer();
  const { messages } = conversation;
  const body = messages.length > 0 ? checkedBody(messages) : undefined;
  if (body) void answer(body);
  else update();
}

async function answer(body: Record<string, unknown>): Promise<void> {
  const abort = new AbortController();
  running = abort;
  const timing = new StreamTiming(performance.now());
  const view = new AnswerView(timing, settings.showsProbabilities);
  transcript.append(view.element);
  transcript.scrollTop = transcript.scrollHeight;
  update();
  let finishReason: string | null = null;
  let usage: Usage | undefined;
  let failure: Error | undefined;
  try {
    for await (const event of streamChat(body, abort.signal)) {
      const isAtEnd = transcript.scrollHeight - transcript.scrollTop - transcript.clientHeight < 80;
      const tokens = event.tokens.length || (event.text !== '' || event.toolCalls.length > 0 ? 1 : 0);
      if (tokens > 0) timing.add(tokens, performance.now());
      view.add(event);
      finishReason = event.finishReason ?? finishReason;
      usage = event.usage ?? usage;
      if (isAtEnd) transcript.scrollTop = transcript.scrollHeight;
    }
  } catch (error) {
    if (abort.signal.aborted) finishReason = 'stopped';
    else failure = error as Error;
  }
  running = undefined;
  // Edited or cleared away meanwhile.
  if (view.element.isConnected) settle(view, timing, finishReason, usage, failure);
  update();
}

function settle(
  view: AnswerView,
  timing: StreamTiming,
  finishReason: string | null,
  usage: Usage | undefined,
  failure: Error | undefined,
): void {
  if (failure) {
    view.fail(failure);
    conversation.add(undefined, view.element);
    announce(`No answer: ${failure.message}`);
    if (failure instanceof ServerError && failure.status === 401) keyDialog.ask(failure.message);
    return;
  }
  view.end(finishReason, usage);
  const { text, toolCalls } = view;
  const calls = toolCalls.length > 0 && { tool_calls: toolCalls };
  conversation.add({ role: 'assistant', content: text, ...calls }, view.element);
  announce(`Answer of ${formatCount(timing.tokens)} tokens in ${formatMs(timing.totalMs)}`);
  if (finishReason === 'tool_calls') askForResults(view);
  const { scrollHeight } = transcript;
  transcript.scrollTop = scrollHeight;
}

function askForResults({ toolCalls }: AnswerView): void {
  const form = toolResultsForm(toolCalls, (messages) => {
    for (const message of messages) {
      const element = h('article', { class: 'message user tool', 'aria-label': 'Tool result' });
      element.append(h('p', {}, message.content));
      conversation.add(message, element);
    }
    const body = checkedBody(conversation.messages);
    if (body) void answer(body);
  });
  conversation.add(undefined, form);
  form.querySelector('textarea')?.focus();
}

function announce(text: string): void {
  setText(byId('announcement'), text);
}

/** What can be done now. */
function update(): void {
  const isRunning = running !== undefined;
  sendButton.hidden = isRunning;
  stopButton.hidden = !isRunning;
  sendButton.disabled = attachments.isReading;
  againButton.disabled = isRunning || conversation.isEmpty;
  byId('welcome').hidden = !conversation.isEmpty || isRunning;
}

function openSettings(isOpen: boolean): void {
  document.body.classList.toggle('settings-open', isOpen);
  byId('settings-button').setAttribute('aria-expanded', String(isOpen));
}

byId('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  ask();
});
prompt.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask();
});
document.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape' || document.querySelector('dialog[open]')) return;
  if (running) running.abort();
  else openSettings(false);
});
stopButton.addEventListener('click', () => {
  running?.abort();
  prompt.focus();
});
againButton.addEventListener('click', answerAgain);
byId('clear').addEventListener('click', () => {
  running?.abort();
  conversation.clear();
  // An answer that streams is no part of the conversation yet.
  for (const element of transcript.querySelectorAll('.message')) element.remove();
  byId('complaint').replaceChildren();
  attachments.put([]);
  update();
  prompt.focus();
});
byId('copy-request').addEventListener('click', () => {
  const messages = [...conversation.messages, ...[written()].filter((message) => message !== undefined)];
  const body = checkedBody(messages.length > 0 ? messages : [{ role: 'user', content: 'Hello!' }]);
  if (body) snippetDialog.open(body);
});
byId('settings-button').addEventListener('click', () => {
  openSettings(!document.body.classList.contains('settings-open'));
});
for (const example of document.querySelectorAll<HTMLButtonElement>('.example')) {
  example.addEventListener('click', () => {
    prompt.value = example.textContent ?? '';
    ask();
  });
}
update();
// On a touch screen this would open the keyboard over the page.
if (matchMedia('(hover: hover)').matches) prompt.focus();
void findModels();
