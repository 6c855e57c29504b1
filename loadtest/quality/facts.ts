import type { Random } from '../random.js';

/** A fact in a sentence, a question that it answers, and the word of the answer that only it can tell. */
export interface Fact {
  /** Two facts with the same subject contradict each other. */
  readonly subject: string;
  readonly sentence: string;
  readonly question: string;
  readonly value: string;
}

const words = (text: string) => text.split(' ');
const names = words(
  'Anna Ben Clara David Emma Felix Grace Henry Iris Jack Kate Leo Mira Nora Oscar Paula Quinn Rosa Sam Tom Uma Victor Wendy Yusuf Zoe',
);
const cities = words(
  'Oslo Paris Berlin Madrid Rome Lisbon Vienna Prague Dublin London Athens Warsaw Helsinki Zurich Naples Porto Cairo Tunis Nairobi Tokyo Seoul Sydney Boston Lima',
);
const colors = words('red blue green yellow orange purple pink brown black white grey silver golden');
const objects = words(
  'box lamp chair table bottle bag drum clock mirror basket kettle camera guitar bicycle suitcase drawer door safe helmet umbrella',
);
const rooms = words('kitchen garden attic cellar garage library office workshop barn studio tower museum');
const jobs = words(
  'doctor teacher baker pilot farmer nurse painter lawyer engineer gardener carpenter dentist',
);
const animals = words('dog cat horse rabbit parrot turtle goat sheep duck fox owl');
const foods = words('pizza soup rice pasta salad bread cheese curry pancakes noodles');
const weathers = words('sunny rainy cloudy windy snowy foggy warm cold');
const days = words('Monday Tuesday Wednesday Thursday Friday Saturday Sunday');

/** In sentences that the demo model knows; other models know them as English. */
const kinds: readonly ((random: Random) => Fact)[] = [
  (random) => {
    const thing = thingOf(random);
    const code = pick(random, ['access code', 'serial number', 'order number']);
    const value = digits(random, 4);
    return fact(
      `${code} of ${thing}`,
      `The ${code} of the ${thing} is ${value}.`,
      `What is the ${code} of the ${thing}?`,
      value,
    );
  },
  (random) => {
    const room = pick(random, rooms);
    const value = `${syllables(random)}${digits(random, 2)}`;
    return fact(
      `password ${room}`,
      `The password for the ${room} is ${value}.`,
      `What is the password for the ${room}?`,
      value,
    );
  },
  (random) => {
    const [name, value] = [pick(random, names), pick(random, cities)];
    return fact(`home ${name}`, `${name} lives in ${value}.`, `Where does ${name} live?`, value);
  },
  (random) => {
    const [name, value] = [pick(random, names), digits(random, 6)];
    return fact(
      `phone ${name}`,
      `The phone number of ${name} is ${value}.`,
      `What is the phone number of ${name}?`,
      value,
    );
  },
  (random) => {
    const [name, value] = [pick(random, names), pick(random, jobs)];
    return fact(`job ${name}`, `${name} works as a ${value}.`, `What is the job of ${name}?`, value);
  },
  (random) => {
    const [name, value] = [pick(random, names), pick(random, days)];
    const hour = 10 + random.below(10);
    return fact(
      `meeting ${name}`,
      `The meeting with ${name} is on ${value} at ${hour}:00.`,
      `When is the meeting with ${name}?`,
      value,
    );
  },
  (random) => {
    const [thing, value] = [thingOf(random), pick(random, names)];
    return fact(`owner ${thing}`, `The ${thing} belongs to ${value}.`, `Who owns the ${thing}?`, value);
  },
];

export function drawFact(random: Random): Fact {
  return pick(random, kinds)(random);
}

const fillers: readonly ((random: Random) => string)[] = [
  (random) => `${pick(random, names)} looked at the ${pick(random, objects)} for a long time.`,
  (random) => `The day was ${pick(random, weathers)} and the ${pick(random, animals)} slept near the door.`,
  (random) => `Later they ate some ${pick(random, foods)} together.`,
  (random) => `The ${pick(random, colors)} ${pick(random, animals)} ran across the ${pick(random, rooms)}.`,
  (random) => `Nobody knew where the ${pick(random, objects)} came from.`,
  (random) => `The ${pick(random, rooms)} was quiet and the light was ${pick(random, colors)}.`,
  (random) => `${pick(random, names)} carried the ${pick(random, objects)} up the stairs.`,
  (random) => `It was a ${pick(random, weathers)} day in ${pick(random, cities)}.`,
  (random) => `The road to ${pick(random, cities)} was long.`,
  (random) => `${pick(random, names)} made ${pick(random, foods)} for ${pick(random, names)}.`,
  () => `The next day the rain stopped and the sky was clear.`,
];

/** A sentence that answers no question. */
export function drawFiller(random: Random): string {
  return pick(random, fillers)(random);
}

function fact(subject: string, sentence: string, question: string, value: string): Fact {
  return { subject, sentence, question, value };
}

function pick<T>(random: Random, list: readonly T[]): T {
  return list[random.below(list.length)]!;
}

function thingOf(random: Random): string {
  return `${pick(random, colors)} ${pick(random, objects)}`;
}

function digits(random: Random, count: number): string {
  return Array.from(
    { length: count },
    (_, index) => (index === 0 ? 1 : 0) + random.below(index === 0 ? 9 : 10),
  ).join('');
}

function syllables(random: Random): string {
  const consonants = words('b d f g k l m n p r s t v z');
  const syllable = () => pick(random, consonants) + pick(random, words('a e i o u'));
  return `${syllable()}${syllable()}${syllable()}`;
}
