import { type OperatorClass, operatorClasses } from '../device/device.js';

/** How fast a device is: all that the cost model knows of it. Rates are of the whole device, every unit at work. */
export interface DeviceConstants {
  /** What they were measured on, or the preset's name. */
  readonly name: string;
  /** Compute units that the rates belong to. */
  readonly units: number;
  /** Prefill's share is a multiple of this many units; decode has what is left, as many at least. */
  readonly smallestGroup: number;
  readonly memory: MemoryConstants;
  readonly team: TeamConstants;
  readonly operators: Readonly<Record<OperatorClass, OperatorConstants>>;
}

export interface MemoryConstants {
  readonly bytesPerSecond: number;
  /** Share of the units with which bandwidth stops to grow in proportion. */
  readonly saturation: number;
  /** Growth beyond, as a part of the growth before: 0 none, 1 as before. */
  readonly slope: number;
  /** What two lanes that read at once reach together, as a part of `bytesPerSecond`. */
  readonly shared: number;
  /** How much longer arithmetic takes while the other lane computes: clocks and caches are shared too. */
  readonly interference: number;
  /** How much longer reading takes beside all units at arithmetic; beside a part of them, that part of it. */
  readonly crowding: number;
  /** Bytes of weights and KV that, read again each step, half come from a cache. 0: none do. */
  readonly cacheBytes: number;
  /** How much faster those are. */
  readonly cacheSpeedup: number;
}

/** What units pay for working together: nothing on one unit, little on a GPU. */
export interface TeamConstants {
  /** Added to each launch. */
  readonly barrierSeconds: number;
  /** A byte of activations that another unit has written moves from its cache to this one's. */
  readonly exchangeSecondsPerByte: number;
}

export interface OperatorConstants {
  readonly flopsPerSecond: number;
  /** As of memory, for arithmetic. */
  readonly saturation: number;
  readonly slope: number;
  /**
   * Work of a pass that pays for nothing, in its own terms. Matmul: rows that a step computes more than it has, because
   * tiles are not full and weights must be unpacked. Attention: tokens that each query sees more than there are, since
   * pages are read whole; in decode their bytes too.
   */
  readonly overhead: number;
  /** Bandwidth this class reaches as a part of the memory's; above 1 where its bytes stay in a cache. */
  readonly bandwidth: number;
  /** Part of the shorter of arithmetic and memory that does not hide behind the longer: 0 is the roofline. */
  readonly exposed: number;
  /** Fixed cost of one launch. */
  readonly launchSeconds: number;
}

/** A share of the device, 0 to 1, as it counts: 1 for all units. */
export function growth(share: number, saturation: number, slope: number): number {
  if (share <= saturation) return share / (saturation + slope * (1 - saturation));
  return (saturation + slope * (share - saturation)) / (saturation + slope * (1 - saturation));
}

/** The same silicon with more or fewer units of it: rates in proportion, memory as it is. */
export function withUnits(constants: DeviceConstants, units: number): DeviceConstants {
  const factor = units / constants.units;
  const operators = Object.fromEntries(
    operatorClasses.map((name) => {
      const operator = constants.operators[name];
      return [name, { ...operator, flopsPerSecond: operator.flopsPerSecond * factor }];
    }),
  ) as Record<OperatorClass, OperatorConstants>;
  return { ...constants, units, operators };
}

/** What a constant may be. */
export type Range = readonly [least: number, most: number];

export const memoryRanges: Record<keyof MemoryConstants, Range> = {
  bytesPerSecond: [1, 1e15],
  saturation: [0.001, 1],
  slope: [0, 1],
  shared: [0.05, 4],
  interference: [0, 4],
  crowding: [0, 4],
  cacheBytes: [0, 1e12],
  cacheSpeedup: [1, 100],
};

export const teamRanges: Record<keyof TeamConstants, Range> = {
  barrierSeconds: [0, 1e-3],
  exchangeSecondsPerByte: [0, 1e-6],
};

export const operatorRanges: Record<keyof OperatorConstants, Range> = {
  flopsPerSecond: [1, 1e18],
  saturation: [0.001, 1],
  slope: [0, 1],
  overhead: [0, 1e6],
  bandwidth: [0.001, 1000],
  exposed: [0, 1],
  launchSeconds: [0, 1],
};

/** Checks stored constants. Throws an Error that names `source`, the field, what was expected and what was found. */
export function parseConstants(value: unknown, source: string): DeviceConstants {
  const root = asObject(value, source, 'the constants');
  const memory = asObject(root.memory, source, 'memory');
  const team = asObject(root.team, source, 'team');
  const operators = asObject(root.operators, source, 'operators');
  const parsed: DeviceConstants = {
    name: asText(root.name, source, 'name'),
    units: asCount(root.units, source, 'units'),
    smallestGroup: asCount(root.smallestGroup, source, 'smallestGroup'),
    // Constants that were stored before there was a term for it: it was none.
    memory: asNumbers({ crowding: 0, ...memory }, memoryRanges, source, 'memory'),
    team: asNumbers(team, teamRanges, source, 'team'),
    operators: Object.fromEntries(
      operatorClasses.map((name) => {
        const field = `operators.${name}`;
        return [name, asNumbers(asObject(operators[name], source, field), operatorRanges, source, field)];
      }),
    ) as Record<OperatorClass, OperatorConstants>,
  };
  if (parsed.smallestGroup > parsed.units) {
    throw new Error(
      `${source}: smallestGroup is ${parsed.smallestGroup}, more than the ${parsed.units} units`,
    );
  }
  return parsed;
}

function asObject(value: unknown, source: string, field: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new Error(`${source}: ${field}: expected an object, found ${JSON.stringify(value)}`);
}

function asText(value: unknown, source: string, field: string): string {
  if (typeof value === 'string' && value !== '') return value;
  throw new Error(`${source}: ${field}: expected a text, found ${JSON.stringify(value)}`);
}

function asCount(value: unknown, source: string, field: string): number {
  if (Number.isInteger(value) && (value as number) >= 1) return value as number;
  throw new Error(`${source}: ${field}: expected a whole number above 0, found ${JSON.stringify(value)}`);
}

function asNumbers<Key extends string>(
  value: Record<string, unknown>,
  ranges: Record<Key, Range>,
  source: string,
  field: string,
): Record<Key, number> {
  const keys = Object.keys(ranges) as Key[];
  return Object.fromEntries(
    keys.map((key) => {
      const found = value[key];
      const [least, most] = ranges[key];
      if (typeof found === 'number' && found >= least && found <= most) return [key, found];
      throw new Error(
        `${source}: ${field}.${key}: expected a number from ${least} to ${most}, found ${JSON.stringify(found)}`,
      );
    }),
  ) as Record<Key, number>;
}
