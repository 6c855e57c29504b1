const place = 'tandem.api-key';

/** The key that this tab was given. It is gone with the tab. */
export function apiKey(): string | undefined {
  return sessionStorage.getItem(place) ?? undefined;
}

export function keepApiKey(key: string): void {
  if (key === '') sessionStorage.removeItem(place);
  else sessionStorage.setItem(place, key);
}

export function authorization(): Record<string, string> {
  const key = apiKey();
  return key === undefined ? {} : { authorization: `Bearer ${key}` };
}

/** The subprotocols of a socket. A browser lets a page set no header of a socket, so the key is one of them. */
export function socketProtocols(): string[] {
  const key = apiKey();
  if (key === undefined) return ['tandem'];
  const bytes = String.fromCharCode(...new TextEncoder().encode(key));
  const encoded = btoa(bytes).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
  return ['tandem', `tandem.key.${encoded}`];
}
