import type { EngineFacts, HelloFrame, LiveFrame, SampleFrame } from '../../live/live-protocol.js';
import { byId, setText } from '../shared/dom.js';
import { formatCount, formatDuration } from '../shared/format.js';
import { KeyDialog } from '../shared/key-dialog.js';
import { type ConnectionState, LiveConnection } from './live-connection.js';
import { LiveHistory } from './live-history.js';
import { Panels } from './panels.js';
import { onScheme } from './theme.js';

/** Seconds that charts show, and that a percentile over time is of. */
const span = 120;
const recent = 10;

const panels = new Panels(span);
let history: LiveHistory | undefined;
let facts: EngineFacts | undefined;
let hello: HelloFrame | undefined;

const seconds = (): number => performance.now() / 1000;

const connection = new LiveConnection({ onFrame, onState });
const keyDialog = new KeyDialog(() => connection.open());

function onFrame(frame: LiveFrame): void {
  if (frame.type === 'hello') greet(frame);
  else if (history) show(history, frame);
}

function greet(frame: HelloFrame): void {
  const perSecond = 1000 / frame.sampleMs;
  history ??= new LiveHistory(frame.latencyBins, span * perSecond, recent * perSecond);
  history.interrupt(seconds());
  if (hello && frame.startedAt !== hello.startedAt) {
    notice(
      `The server was restarted at ${new Date(frame.startedAt).toLocaleTimeString()}. Its totals begin anew.`,
    );
  } else if (hello && frame.engineNumber > hello.engineNumber && hello.engine && frame.engine) {
    notice(`The engine was lost and opened anew at ${new Date().toLocaleTimeString()}.`);
  }
  hello = frame;
  facts = frame.engine;
  panels.requests.reset(frame.requests);
  if (!facts) return;
  panels.setEngine(facts);
  const { model, device, weights, kvPrecision, contextLength, kvBytes, kvBytesPerToken } = facts;
  const kvTokens = Math.floor(kvBytes / kvBytesPerToken);
  setText(byId('model'), model);
  setText(
    byId('facts'),
    `${device.name}, ${device.units} ${device.kind === 'cuda' ? 'SMs' : 'cores'}, ${device.isa} · ${weights} weights · ` +
      `KV cache ${kvPrecision}, ${formatCount(kvTokens)} tokens · context ${formatCount(contextLength)}`,
  );
}

function show(shown: LiveHistory, sample: SampleFrame): void {
  const now = seconds();
  shown.push(sample, now);
  panels.show(shown, sample, facts);
  panels.draw(shown, now);
  const { http, webSockets } = sample.connections;
  setText(
    byId('uptime'),
    `up ${formatDuration(sample.atMs / 1000)} · ${formatCount(http)} connections, ${formatCount(webSockets)} by WebSocket`,
  );
  const statuses: Record<SampleFrame['status'], string> = {
    loading: 'Loading the model',
    ready: 'Live',
    draining: 'Shutting down: no new requests',
    failed: 'The engine is lost',
  };
  setStatus(sample.status, statuses[sample.status]);
}

function onState(state: ConnectionState): void {
  if (state.kind === 'connecting' || state.kind === 'live') {
    if (hello === undefined) setStatus('loading', 'Connecting');
    if (state.kind === 'live') document.body.classList.remove('stale');
    return;
  }
  document.body.classList.add('stale');
  if (state.kind === 'paused') setStatus('paused', 'Paused while hidden');
  if (state.kind === 'lost') setStatus('lost', 'Server not reached, trying again');
  if (state.kind === 'locked') {
    setStatus('locked', 'API key needed');
    keyDialog.ask(state.reason);
  }
}

function setStatus(state: string, text: string): void {
  byId('status').dataset.state = state;
  setText(byId('status-text'), text);
}

function notice(text: string): void {
  byId('notice').hidden = false;
  setText(byId('notice-text'), text);
}

byId('notice-close').addEventListener('click', () => {
  byId('notice').hidden = true;
});
onScheme(() => {
  if (history) panels.draw(history, seconds());
});
connection.open();
