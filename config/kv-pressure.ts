/** How far KV may be squeezed when memory is short, from not at all on; each takes less than the one before. */
export const pressureLevels = ['off', 'int8', 'int4', 'zip', 'pack'] as const;
export type PressureLevel = (typeof pressureLevels)[number];

export function squeezesMore(level: PressureLevel, than: PressureLevel): boolean {
  return pressureLevels.indexOf(level) > pressureLevels.indexOf(than);
}

/** What both of them allow. */
export function milder(one: PressureLevel, other: PressureLevel): PressureLevel {
  return squeezesMore(one, other) ? other : one;
}
