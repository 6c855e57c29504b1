import type { PressureLevel } from '../../config/kv-pressure.js';
import { ApiError } from '../openai/errors.js';
import { RateLimit } from './rate-limit.js';

/** What a key allows. Absent limits: there is none. */
export interface KeyRules {
  /** Appears in logs, and is the owner of what is kept. */
  readonly name: string;
  readonly requestsPerMinute?: number | undefined;
  readonly tokensPerMinute?: number | undefined;
  readonly tokensPerDay?: number | undefined;
  /** Requests that ask for a higher priority get this one. */
  readonly maxPriority?: number | undefined;
  /** How far the KV of requests may be squeezed when memory is short. */
  readonly kvPressure?: PressureLevel | undefined;
}

export interface KeyUsage {
  requests: number;
  refused: number;
  promptTokens: number;
  generatedTokens: number;
}

/** A limit as headers and messages name it. */
interface NamedLimit {
  readonly name: 'requests' | 'tokens' | 'tokens-day';
  readonly code: 'rate_limit_exceeded' | 'quota_exceeded';
  readonly text: string;
  readonly limit: RateLimit;
}

/** Whoever asks: a key, its limits, and what it has used since the server started. */
export class ApiKey {
  readonly name: string;
  readonly maxPriority: number;
  readonly kvPressure: PressureLevel;
  readonly usage: KeyUsage = { requests: 0, refused: 0, promptTokens: 0, generatedTokens: 0 };
  openSockets = 0;
  readonly #limits: NamedLimit[] = [];

  constructor(rules: KeyRules, now: () => number) {
    this.name = rules.name;
    this.maxPriority = rules.maxPriority ?? Number.POSITIVE_INFINITY;
    this.kvPressure = rules.kvPressure ?? 'pack';
    const add = (amount: number | undefined, seconds: number, rest: Omit<NamedLimit, 'limit'>): void => {
      if (amount !== undefined) this.#limits.push({ ...rest, limit: new RateLimit(amount, seconds, now) });
    };
    const code = 'rate_limit_exceeded';
    add(rules.requestsPerMinute, 60, { name: 'requests', code, text: 'requests a minute' });
    add(rules.tokensPerMinute, 60, { name: 'tokens', code, text: 'tokens a minute' });
    add(rules.tokensPerDay, 86_400, { name: 'tokens-day', code: 'quota_exceeded', text: 'tokens a day' });
  }

  /** Counts a request. Throws `ApiError` 429, naming the limit that is reached and when to come again. */
  admit(): void {
    const reached = this.#limits
      .filter(({ limit }) => limit.remaining < 1)
      .toSorted((a, b) => b.limit.secondsUntilNext() - a.limit.secondsUntilNext())[0];
    if (reached) {
      this.usage.refused++;
      const { limit, code, text } = reached;
      const retryAfterSeconds = limit.secondsUntilNext();
      const when = `come again in ${Math.ceil(retryAfterSeconds)} s`;
      throw new ApiError(
        429,
        'rate_limit_error',
        `The key '${this.name}' has used its ${limit.limit} ${text}; ${when}.`,
        { code, retryAfterSeconds },
      );
    }
    this.usage.requests++;
    for (const { name, limit } of this.#limits) if (name === 'requests') limit.take(1);
  }

  chargePrompt(tokens: number): void {
    this.usage.promptTokens += tokens;
    this.#charge(tokens);
  }

  giveBackPrompt(tokens: number): void {
    this.usage.promptTokens -= tokens;
    for (const { name, limit } of this.#limits) if (name !== 'requests') limit.giveBack(tokens);
  }

  chargeGenerated(tokens: number): void {
    this.usage.generatedTokens += tokens;
    this.#charge(tokens);
  }

  /** What is left of each limit. */
  get limits(): { name: string; limit: number; remaining: number }[] {
    return this.#limits.map(({ text, limit }) => ({
      name: text,
      limit: limit.limit,
      remaining: limit.remaining,
    }));
  }

  /** As OpenAI names them: `x-ratelimit-limit-requests`, …. */
  headers(): Record<string, string> {
    return Object.fromEntries(
      this.#limits.flatMap(({ name, limit }) => [
        [`x-ratelimit-limit-${name}`, String(limit.limit)],
        [`x-ratelimit-remaining-${name}`, String(limit.remaining)],
        [`x-ratelimit-reset-${name}`, durationText(limit.secondsUntilFull())],
      ]),
    );
  }

  #charge(tokens: number): void {
    for (const { name, limit } of this.#limits) if (name !== 'requests') limit.take(tokens);
  }
}

/** As OpenAI writes them: `1h2m3s`, `17ms`. */
function durationText(seconds: number): string {
  if (seconds < 1) return `${Math.ceil(seconds * 1000)}ms`;
  const whole = Math.ceil(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const parts = [hours > 0 && `${hours}h`, (hours > 0 || minutes > 0) && `${minutes}m`, `${whole % 60}s`];
  return parts.filter((part) => part !== false).join('');
}
