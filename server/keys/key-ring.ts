import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { ApiKey, type KeyRules } from './api-key.js';

/** Begins a WebSocket's subprotocol that is a key, as base64url: a browser can set no other header of a socket. */
export const keyProtocol = 'tandem.key.';

/** A key as it is known here: never in clear. */
export interface KnownKey extends KeyRules {
  /** sha256 of the key. */
  readonly hash: Buffer;
}

/** The keys of a server. Without any, everyone may come, and all are one nameless key. */
export class KeyRing {
  readonly keys: readonly ApiKey[];
  readonly #hashes: readonly Buffer[];

  /** `defaults`: what applies to keys that say nothing else. `now` gives milliseconds. */
  constructor(known: readonly KnownKey[], defaults: Omit<KeyRules, 'name'>, now: () => number) {
    const rules = known.length > 0 ? known : [{ name: '' }];
    this.#hashes = known.map(({ hash }) => hash);
    this.keys = rules.map((given) => new ApiKey({ ...defaults, ...withoutAbsent(given) }, now));
  }

  /** The key that a request carries; undefined if that is none that is known. */
  find(request: IncomingMessage): ApiKey | undefined {
    if (this.#hashes.length === 0) return this.keys[0];
    const given = hashOf(bearerOf(request) ?? protocolKeyOf(request) ?? '');
    let found: ApiKey | undefined;
    // Hashes have one length and all are compared, so nothing of a key shows in the time this takes.
    this.#hashes.forEach((hash, index) => {
      if (timingSafeEqual(hash, given)) found = this.keys[index];
    });
    return found;
  }
}

/** What stands behind `Authorization: Bearer`. */
export function bearerOf({ headers }: IncomingMessage): string | undefined {
  return /^Bearer (.*)$/is.exec(headers.authorization ?? '')?.[1];
}

/** The key in a WebSocket's subprotocols. */
function protocolKeyOf({ headers }: IncomingMessage): string | undefined {
  if (headers.authorization !== undefined) return undefined;
  const protocols = headers['sec-websocket-protocol']?.split(',').map((protocol) => protocol.trim());
  const encoded = protocols?.find((protocol) => protocol.startsWith(keyProtocol));
  return encoded && Buffer.from(encoded.slice(keyProtocol.length), 'base64url').toString();
}

export function hashOf(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

function withoutAbsent<T extends object>(rules: T): T {
  return Object.fromEntries(Object.entries(rules).filter(([, value]) => value !== undefined)) as T;
}
