/** A colour of the style sheet, as it is in the present scheme. */
export function color(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** The same with less of it. */
export function faint(name: string, alpha: number): string {
  return `color-mix(in srgb, ${color(name)} ${alpha * 100}%, transparent)`;
}

/** Called when the system goes from light to dark or back. */
export function onScheme(listener: () => void): void {
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', listener);
}
