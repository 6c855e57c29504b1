/** Three digits that matter, and no more than a person reads. */
function digits(value: number): string {
  if (value === 0) return '0';
  const decimals = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(decimals, 2)).replace(/\.0+$|(\.\d*[1-9])0+$/, '$1');
}

export function formatMs(ms: number): string {
  return ms < 999.5 ? `${digits(ms)} ms` : `${digits(ms / 1000)} s`;
}

export function formatCount(count: number): string {
  return Math.round(count).toLocaleString('en');
}

/** A rate: few digits when it is low. */
export function formatRate(perSecond: number): string {
  return perSecond < 100 ? digits(perSecond) : formatCount(perSecond);
}

export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  return `${digits(bytes / 1024 ** power)} ${units[power]}`;
}

export function formatShare(share: number): string {
  return `${digits(share * 100)}%`;
}

/** 90061 s: "1 d 1 h". */
export function formatDuration(seconds: number): string {
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [Math.floor(seconds) % 60, 's'],
  ] as const;
  const first = parts.findIndex(([value]) => value > 0);
  if (first < 0) return '0 s';
  return parts
    .slice(first, first + 2)
    .map(([value, unit]) => `${value} ${unit}`)
    .join(' ');
}
