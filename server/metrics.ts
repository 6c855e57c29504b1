import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { EngineStats } from '../engine/index.js';

const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];

/** The names follow vLLM's, with our prefix, so that dashboards carry over. */
export class Metrics {
  readonly registry = new Registry();
  readonly timeToFirstToken = this.#histogram(
    'time_to_first_token_seconds',
    'From arrival to the first token.',
  );
  readonly interToken = this.#histogram('inter_token_latency_seconds', 'Between two tokens of one choice.');
  readonly endToEnd = this.#histogram('e2e_request_latency_seconds', 'From arrival to the last token.');
  readonly queueTime = this.#histogram(
    'request_queue_time_seconds',
    'From arrival until the request first ran.',
  );
  readonly requests = new Counter({
    name: 'tandem:request_success_total',
    help: 'Requests that ended, by reason: stop, length, abort, error.',
    labelNames: ['finished_reason'],
    registers: [this.registry],
  });
  readonly engineRestarts = new Counter({
    name: 'tandem:engine_restarts_total',
    help: 'Engines that were opened anew because one was lost.',
    registers: [this.registry],
  });
  readonly streamStall = new Counter({
    name: 'tandem:stream_stall_seconds_total',
    help: 'Time that requests were paused because their reader did not keep up.',
    registers: [this.registry],
  });
  readonly httpRequests = new Counter({
    name: 'tandem:http_requests_total',
    help: 'HTTP requests that ended, by status; 499: the client left before.',
    labelNames: ['status'],
    registers: [this.registry],
  });
  readonly rateLimited = new Counter({
    name: 'tandem:rate_limited_total',
    help: 'Requests that were refused because their key had used what it may.',
    labelNames: ['code'],
    registers: [this.registry],
  });
  readonly malformedRequests = new Counter({
    name: 'tandem:malformed_requests_total',
    help: 'What was sent and is no HTTP request, or came too slowly.',
    registers: [this.registry],
  });
  readonly responsesNotKept = new Counter({
    name: 'tandem:responses_not_kept_total',
    help: 'Responses that were to be stored and could not be: each is too large, or the store failed.',
    registers: [this.registry],
  });
  readonly droppedConnections = new Counter({
    name: 'tandem:dropped_connections_total',
    help: 'Connections that were closed because there were as many as there may be.',
    registers: [this.registry],
  });
  readonly httpConnections = this.#gauge('http_connections', 'Open HTTP connections.');
  readonly webSockets = this.#gauge('websockets', 'Open WebSocket connections.');
  readonly activeRequests = this.#gauge(
    'active_requests',
    'Generation requests that the front end has open.',
  );
  readonly pausedRequests = this.#gauge('paused_requests', 'Of these, those whose reader does not keep up.');
  readonly #engine = new Map<string, Gauge>();

  constructor() {
    // `process_resident_memory_bytes`, `process_open_fds`, `nodejs_eventloop_lag_seconds` and the like.
    collectDefaultMetrics({ register: this.registry });
  }

  /** The text of `/metrics`. Engine figures are absent until the model is loaded, and while its engine is lost. */
  async text(stats: EngineStats | undefined): Promise<string> {
    if (stats) this.#recordEngine(stats);
    else this.#forgetEngine();
    return this.registry.metrics();
  }

  #forgetEngine(): void {
    for (const name of this.#engine.keys()) this.registry.removeSingleMetric(`tandem:${name}`);
    this.#engine.clear();
  }

  #recordEngine(stats: EngineStats): void {
    this.#set('num_requests_running', 'Sequences that have a slot.', stats.running);
    this.#set('num_requests_waiting', 'Requests that have not started.', stats.waiting);
    this.#set('slots_open', 'Slots in use.', stats.slotsOpen);
    const used = stats.kvBlocksUsed / Math.max(1, stats.kvBlocksTotal);
    this.#set('kv_cache_usage_perc', 'Used part of the KV cache, 0 to 1.', used);
    this.#set('kv_blocks_used', 'KV blocks held by sequences or the prefix cache.', stats.kvBlocksUsed);
    this.#set('kv_blocks_total', 'KV blocks there are.', stats.kvBlocksTotal);
    const held = Object.entries(stats.kvHeldBytes);
    const bytes = held.reduce((sum, [, ofClass]) => sum + ofClass, 0);
    this.#set('kv_bytes', 'Bytes of KV pages in use.', bytes);
    const allBytes = stats.kvBlocksTotal * stats.kvBlockBytes;
    this.#set('kv_bytes_total', 'Bytes of KV pages there is memory for.', allBytes);
    for (const [name, ofClass] of held) {
      this.#set('kv_class_bytes', 'Bytes of KV pages in use, by precision class.', ofClass, { class: name });
    }
    this.#set('kv_packed_blocks_total', 'KV blocks that were packed to int4 or int2.', stats.kvPackedBlocks);
    this.#set('kv_far_bytes', 'Host memory that far pages hold under --kv pack.', stats.kvFarBytes);
    const droppedHelp = 'Tokens that endless sequences have given up.';
    this.#set('kv_dropped_tokens_total', droppedHelp, stats.kvDroppedTokens);
    for (const [layer, { high, all }] of (stats.kvPages ?? []).entries()) {
      const of = (kept: string) => ({ layer: String(layer), kept });
      const help = 'KV pages that were packed under zip: kept in the better class, or not.';
      this.#set('kv_zip_pages_total', help, high, of('high'));
      this.#set('kv_zip_pages_total', help, all - high, of('low'));
    }
    this.#set('prefix_cache_blocks', 'KV blocks held by the prefix cache.', stats.cache.blocks);
    this.#set('prefix_cache_hits_total', 'Prompt tokens found in the prefix cache.', stats.cache.hitTokens);
    this.#set('prefix_cache_queries_total', 'Prompt tokens looked up.', stats.cache.queriedTokens);
    this.#set('prefix_cache_evictions_total', 'Blocks evicted.', stats.cache.evictedBlocks);
    if (stats.images) {
      const { encoded, reused, encodeSeconds, heldBytes } = stats.images;
      this.#set('images_encoded_total', 'Images that went through the vision encoder.', encoded);
      this.#set('images_reused_total', 'Images of requests that had been encoded before.', reused);
      this.#set('image_encode_seconds_total', 'Time the vision encoder took for them.', encodeSeconds);
      this.#set('image_bytes', 'Memory held of images: pixels that wait, and rows.', heldBytes);
    }
    this.#set('prompt_tokens_total', 'Prompt tokens of requests that started.', stats.promptTokens);
    this.#set(
      'prefill_tokens_total',
      'Prompt tokens that steps have read; cached ones are not.',
      stats.promptTokensRead,
    );
    this.#set('generation_tokens_total', 'Tokens generated.', stats.generatedTokens);
    this.#set('num_preemptions_total', 'Sequences that gave up their memory to others.', stats.preemptions);
    this.#set('kv_swaps_out_total', 'Of these, those whose KV was copied to host memory.', stats.swapsOut);
    this.#set('kv_swaps_in_total', 'Sequences whose KV came back from host memory.', stats.swapsIn);
    this.#set('kv_swapped_bytes', 'KV in host memory.', stats.kvSwappedBytes);
    this.#set('mixed_steps_total', 'Steps that read prompts and extended streams in one.', stats.mixedSteps);
    this.#set('repartitions_total', 'Changes of the split of compute units.', stats.repartitions);
    this.#set(
      'scheduler_seconds_total',
      'Time spent on planning and delivering steps.',
      stats.schedulerSeconds,
    );
    for (const [phase, seconds] of Object.entries(stats.unitSeconds)) {
      this.#set('unit_seconds_total', 'Compute units times seconds of steps, by what they did.', seconds, {
        phase,
      });
    }
    for (const lane of ['prefill', 'decode'] as const) {
      this.#set('steps_total', 'Steps run.', stats.steps[lane], { lane });
      this.#set('lane_busy_seconds_total', 'Time the lane computed.', stats.laneBusySeconds[lane], { lane });
      this.#set('lane_units', 'Compute units the lane has.', stats.laneUnits[lane], { lane });
      const ratio = stats.costModelErrorRatio?.[lane];
      if (ratio === undefined) continue;
      this.#set('cost_model_error_ratio', 'Measured over foreseen time of steps, lately.', ratio, { lane });
    }
  }

  /** Totals come from the engine, which counts them; here they are only shown. */
  #set(name: string, help: string, value: number, labels: Record<string, string> = {}): void {
    let gauge = this.#engine.get(name);
    if (!gauge) {
      const labelNames = Object.keys(labels);
      gauge = new Gauge({ name: `tandem:${name}`, help, labelNames, registers: [this.registry] });
      this.#engine.set(name, gauge);
    }
    gauge.set(labels, value);
  }

  #histogram(name: string, help: string): Histogram {
    return new Histogram({ name: `tandem:${name}`, help, buckets: seconds, registers: [this.registry] });
  }

  #gauge(name: string, help: string): Gauge {
    return new Gauge({ name: `tandem:${name}`, help, registers: [this.registry] });
  }
}
