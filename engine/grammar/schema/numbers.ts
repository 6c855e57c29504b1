import {
  chars,
  choice,
  empty,
  nothing,
  optional,
  type Pattern,
  repeat,
  rule,
  sequence,
  text,
} from '../pattern.js';

/** Numbers between bounds, as patterns of their digits. */
export interface Bounds {
  readonly least?: Bound;
  readonly most?: Bound;
}

export interface Bound {
  readonly value: number;
  readonly exclusive: boolean;
}

const digit = chars([0x30, 0x39]);
const digits = (least: number, most: number): Pattern => repeat(digit, least, most);
/** The largest whole number that is written. */
const largest = 10 ** 15 - 1;
const mostDecimals = 15;

export function integers({ least, most }: Bounds): Pattern {
  if (!least && !most) return rule('integer');
  const low = least ? Math.max(-largest, wholeFrom(least)) : -largest;
  const high = most ? Math.min(largest, wholeTo(most)) : largest;
  return choice([
    ...(low <= Math.min(high, -1) ? [sequence('-', naturals(Math.max(1, -high), -low))] : []),
    ...(high >= Math.max(low, 0) ? [naturals(Math.max(0, low), high)] : []),
  ]);
}

function wholeFrom({ value, exclusive }: Bound): number {
  return exclusive && Number.isInteger(value) ? value + 1 : Math.ceil(value);
}

function wholeTo({ value, exclusive }: Bound): number {
  return exclusive && Number.isInteger(value) ? value - 1 : Math.floor(value);
}

export function numbers({ least, most }: Bounds): Pattern {
  if (!least && !most) return rule('number');
  const options: Pattern[] = [];
  const zeroIn =
    (!least || (least.exclusive ? least.value < 0 : least.value <= 0)) &&
    (!most || (most.exclusive ? most.value > 0 : most.value >= 0));
  if (zeroIn) options.push(sequence('0', optional(sequence('.', repeat(text('0'), 1, mostDecimals)))));
  if (!most || most.value > 0) {
    const from = least && least.value >= 0 ? least : { value: 0, exclusive: true };
    options.push(decimals(from, most));
  }
  if (!least || least.value < 0) {
    const from = most && most.value <= 0 ? mirrored(most) : { value: 0, exclusive: true };
    options.push(sequence('-', decimals(from, least && mirrored(least))));
  }
  return choice(options);
}

function mirrored({ value, exclusive }: Bound): Bound {
  return { value: -value, exclusive };
}

/** Decimal numbers without a sign. */
function decimals(least: Bound, most: Bound | undefined): Pattern {
  const [lowWhole, lowTail] = parts(least.value);
  const [highWhole, highTail] = most ? parts(most.value) : [largest + 1, ''];
  const highExclusive = most?.exclusive ?? false;
  const low = (rest: Pattern[]) => sequence(String(lowWhole), ...rest);
  if (lowWhole > highWhole) return nothing;
  if (lowWhole === highWhole) {
    const places = placesOf(lowWhole, least.exclusive || highExclusive);
    return low([fractions(lowTail, least.exclusive, highTail, highExclusive, places)]);
  }
  const top = Math.min(largest, highWhole - 1);
  // Behind it a double comes near to a whole bound, and must not become that.
  const isNearBound = highExclusive && highTail === '' && top === highWhole - 1;
  const any = (places: number): Pattern =>
    places === 0 ? empty : optional(sequence('.', digits(1, places)));
  const lowPlaces = placesOf(lowWhole, least.exclusive || (isNearBound && lowWhole === top));
  const between = isNearBound ? top - 1 : top;
  return choice([
    ...(lowWhole <= largest ? [low([fractions(lowTail, least.exclusive, undefined, false, lowPlaces)])] : []),
    ...(lowWhole + 1 <= between ? [sequence(naturals(lowWhole + 1, between), any(mostDecimals))] : []),
    ...(isNearBound && lowWhole < top ? [sequence(String(top), any(placesOf(top, true)))] : []),
    ...(highWhole <= largest
      ? [
          sequence(
            String(highWhole),
            fractions('', false, highTail, highExclusive, placesOf(highWhole, highExclusive)),
          ),
        ]
      : []),
  ]);
}

/**
 * Digits behind the point. What is not to be a bound must not become it as a double either: up to 15 digits in all
 * (DBL_DIG) are told apart.
 */
function placesOf(whole: number, isApart: boolean): number {
  return isApart && whole > 0 ? mostDecimals - String(whole).length : mostDecimals;
}

/** The whole part, and the digits behind the point: those the number is written with, whatever its nearest double is. */
function parts(value: number): [number, string] {
  const written = String(value);
  const isScientific = /e/i.test(written);
  const digitsOf = isScientific ? value.toFixed(mostDecimals).replace(/0+$/, '') : written;
  return [Math.trunc(value), digitsOf.split('.')[1] ?? ''];
}

/** What may follow a whole part: nothing, or a point and digits, between two such tails. Undefined: no upper one. */
function fractions(
  low: string,
  lowExclusive: boolean,
  high: string | undefined,
  highExclusive: boolean,
  places: number,
): Pattern {
  const zeros = low === '' && !lowExclusive && (high !== '' || !highExclusive);
  const behind = tails(low, lowExclusive, high, highExclusive, places);
  return choice([...(zeros ? [sequence()] : []), sequence('.', behind)]);
}

/** Digits behind the point, from one to so many places, that are neither below `low` nor above `high`. */
function tails(
  low: string,
  lowExclusive: boolean,
  high: string | undefined,
  highExclusive: boolean,
  places: number,
): Pattern {
  if (places === 0) return nothing;
  const left = places - 1;
  const lowBound = low !== '' || lowExclusive;
  const highBound = high !== undefined;
  const first = low === '' ? 0 : Number(low[0]);
  const last = high === undefined ? 9 : high === '' ? 0 : Number(high[0]);
  const options: Pattern[] = [];
  const rest = (isLow: boolean, isHigh: boolean): Pattern => {
    const nextLow = isLow ? low.slice(1) : '';
    const nextLowExclusive = isLow && lowExclusive;
    const nextHigh = isHigh ? (high ?? '').slice(1) : undefined;
    const mayEnd =
      (!isLow || (/^0*$/.test(nextLow) && !nextLowExclusive)) &&
      (!isHigh || !/^0*$/.test(nextHigh!) || !highExclusive);
    const isOpen = nextLow === '' && !nextLowExclusive && nextHigh === undefined;
    const more = isOpen
      ? digits(1, Math.max(1, left))
      : tails(nextLow, nextLowExclusive, nextHigh, highExclusive, left);
    if (left === 0) return mayEnd ? sequence() : nothing;
    return choice([...(mayEnd ? [sequence()] : []), more]);
  };
  for (let value = first; value <= last; value++) {
    const isLow = lowBound && value === first;
    const isHigh = highBound && value === last;
    options.push(sequence(String(value), rest(isLow, isHigh)));
  }
  return choice(options);
}

/** Whole numbers from 0 on. */
function naturals(low: number, high: number): Pattern {
  if (low > high) return nothing;
  const options: Pattern[] = [];
  for (let length = String(low).length; length <= String(high).length; length++) {
    const from = Math.max(low, length === 1 ? 0 : 10 ** (length - 1));
    const to = Math.min(high, 10 ** length - 1);
    options.push(sameLength(String(from), String(to)));
  }
  return choice(options);
}

function sameLength(low: string, high: string): Pattern {
  if (low === high) return text(low);
  const rest = low.length - 1;
  if (/^0*$/.test(low.slice(1)) && /^9*$/.test(high.slice(1))) {
    return sequence(chars([low.charCodeAt(0), high.charCodeAt(0)]), digits(rest, rest));
  }
  if (low[0] === high[0]) return sequence(low[0]!, sameLength(low.slice(1), high.slice(1)));
  const first = Number(low[0]);
  const last = Number(high[0]);
  return choice([
    sequence(low[0]!, sameLength(low.slice(1), '9'.repeat(rest))),
    ...(first + 1 < last ? [sequence(chars([0x30 + first + 1, 0x30 + last - 1]), digits(rest, rest))] : []),
    sequence(high[0]!, sameLength('0'.repeat(rest), high.slice(1))),
  ]);
}
