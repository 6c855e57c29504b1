import type { Engine } from '../../engine/index.js';
import type { Service } from '../service.js';
import { latencyBins } from './latency-bins.js';
import type { EngineFacts, HelloFrame, LiveFrame, SampleFrame, ServerStatus } from './live-protocol.js';

const sampleMs = 500;

type Viewer = (frame: LiveFrame) => void;

/** Looks at the server twice a second and tells all who watch. While nobody does it does nothing. */
export class LiveFeed {
  readonly #viewers = new Set<Viewer>();
  readonly #startedAt = Date.now();
  #timer: NodeJS.Timeout | undefined;
  #isLooking = false;
  #engine: Engine | undefined;
  #engineNumber = 0;

  constructor(private readonly service: Service) {}

  /** Returns what ends it. The first frame is on its way when this returns. */
  watch(viewer: Viewer): () => void {
    if (this.#viewers.size === 0) this.#begin();
    this.#viewers.add(viewer);
    viewer(this.hello());
    return () => {
      this.#viewers.delete(viewer);
      if (this.#viewers.size === 0) clearInterval(this.#timer);
    };
  }

  hello(): HelloFrame {
    const engine = this.#facts();
    return {
      type: 'hello',
      startedAt: this.#startedAt,
      engineNumber: this.#engineNumber,
      sampleMs,
      latencyBins,
      ...(engine && { engine }),
      requests: this.service.recent.ended(),
    };
  }

  #begin(): void {
    const { recent } = this.service;
    // What nobody watched is in `/metrics`; here begins something new.
    recent.ttft.take();
    recent.tbt.take();
    recent.takeEnded();
    this.#noticeEngine();
    this.#timer = setInterval(() => void this.#look(), sampleMs);
  }

  async #look(): Promise<void> {
    // An engine that answers late is asked once, not twice a second.
    if (this.#isLooking) return;
    this.#isLooking = true;
    const engine = await this.#askEngine();
    this.#isLooking = false;
    if (this.#noticeEngine()) this.#tell(this.hello());
    const { recent, metrics } = this.service;
    const sample: SampleFrame = {
      type: 'sample',
      atMs: this.service.uptimeMs(),
      status: this.#status(),
      ...(engine && { engine }),
      ttft: recent.ttft.take(),
      tbt: recent.tbt.take(),
      connections: {
        http: await gaugeValue(metrics.httpConnections),
        webSockets: await gaugeValue(metrics.webSockets),
      },
      running: recent.running(),
      ended: recent.takeEnded(),
    };
    this.#tell(sample);
  }

  #tell(frame: LiveFrame): void {
    for (const viewer of this.#viewers) viewer(frame);
  }

  /** Whether there is another engine than the last time. */
  #noticeEngine(): boolean {
    const engine = this.service.loaded?.engine;
    if (engine === this.#engine) return false;
    this.#engine = engine;
    this.#engineNumber++;
    return true;
  }

  async #askEngine(): Promise<SampleFrame['engine']> {
    const { loaded } = this.service;
    if (!loaded) return undefined;
    try {
      const [stats, scheduler] = await Promise.all([loaded.engine.stats(), loaded.engine.explain()]);
      return { stats, scheduler };
    } catch {
      // The engine is lost; the status says so.
      return undefined;
    }
  }

  #status(): ServerStatus {
    const { service } = this;
    if (service.draining) return 'draining';
    if (service.isReady) return 'ready';
    return service.loaded ? 'failed' : 'loading';
  }

  #facts(): EngineFacts | undefined {
    const { loaded, settings } = this.service;
    if (!loaded) return undefined;
    const { info } = loaded.engine;
    const { kind, name, isa, units } = info.device;
    return {
      model: info.model,
      weights: info.weights,
      contextLength: info.contextLength,
      kvPrecision: info.kvPrecision,
      kvBytes: info.kvBytes,
      kvBytesPerToken: info.kvBytesPerToken,
      device: { kind, name, isa, units },
      maxSequences: settings.engine.maxSequences,
      maxQueue: settings.engine.maxQueue,
    };
  }
}

async function gaugeValue(gauge: {
  get(): Promise<{ values: readonly { value: number }[] }>;
}): Promise<number> {
  return (await gauge.get()).values[0]?.value ?? 0;
}
