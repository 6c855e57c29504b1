/**
 * Compares a device's logits with golden ones: those of test/fixtures/golden, and of the demo model.
 *
 *   node compare-logits.mjs PACKED DEVICE OUT.json
 *
 * PACKED is a folder with Tandem compiled (scripts/pack.mjs), DEVICE is cuda or cpu. Each prompt is read in a few chunks on
 * the prefill lane, and token by token on the decode lane: both must come to the same bits. Images are encoded on the processor, as
 * the server does, and their rows embedded on the device.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath, pathToFileURL } from 'node:url';

const [packed, device, outFile] = process.argv.slice(2);
if (outFile === undefined) {
  process.stderr.write('usage: node compare-logits.mjs PACKED DEVICE OUT.json\n');
  process.exit(1);
}
const compiled = (file) => import(pathToFileURL(path.resolve(packed, 'dist', file)).href);
const { greedySampling, openDevice, readCheckpoint, Want } = await compiled('engine/index.js');
const { openVisionEncoder } = await compiled('engine/device/native.js');
const { embedPrompt } = await compiled('engine/images/embed-prompt.js');
const { EngineSettings, ModelSettings } = await compiled('config/schema.js');

/**
 * Of the root mean square of the logits, what the difference's may be: activations are rounded to bf16 some dozen times a
 * layer, to 0.2% each; integers of 8 bits round a weight to 0.4% of its group's largest.
 */
const limits = { bf16: 0.03, int8: 0.06 };

const results = [];
for (const model of models()) {
  // Integers go through the same code for every architecture.
  for (const weights of ['demo', 'llama', 'qwen2'].includes(model.name) ? ['bf16', 'int8'] : ['bf16']) {
    const result = { model: model.name, weights };
    try {
      Object.assign(result, await compare(model, weights));
    } catch (error) {
      Object.assign(result, { passed: false, error: error.message });
    }
    results.push(result);
    process.stdout.write(`${JSON.stringify(result)}\n`);
    writeFileSync(outFile, `${JSON.stringify(results, null, 1)}\n`);
  }
}
const failed = results.filter(({ passed }) => !passed).length;
process.stdout.write(`${results.length - failed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;

function models() {
  const goldenFolder = fileURLToPath(new URL('../../fixtures/golden', import.meta.url));
  const found = readdirSync(goldenFolder).sort();
  const checkpoints = found.flatMap((name) => {
    const folder = path.join(goldenFolder, name);
    const file = path.join(folder, 'golden.safetensors');
    if (!existsSync(file)) return [];
    const { input_ids: tokens, logits, greedy, pixel_values: pixels } = readTensors(file);
    return [{ name, folder, cases: [{ tokens, rows: rowsOf(logits, tokens.length), greedy, pixels }] }];
  });
  const demo = path.resolve(packed, 'models/demo');
  const cases = JSON.parse(readFileSync(path.join(demo, 'eval/golden.json'), 'utf8')).map((golden) => ({
    tokens: Int32Array.from(golden.prompt_ids),
    // Of the last position the first 16.
    rows: new Map([[golden.prompt_ids.length - 1, Float32Array.from(golden.logits16)]]),
    greedy: Int32Array.from(golden.greedy_ids),
  }));
  return [{ name: 'demo', folder: demo, cases }, ...checkpoints];
}

async function compare({ folder, cases }, weights) {
  const model = ModelSettings.parse({ path: folder, weights, checkFinite: true });
  const engine = EngineSettings.parse({ device, kvMemory: '64MiB', maxSequences: 2, maxStepTokens: 512 });
  const opened = await openDevice({ model, engine });
  try {
    const total = {
      squares: 0,
      goldenSquares: 0,
      largest: 0,
      rows: 0,
      sameBest: 0,
      sameBits: 0,
      greedy: 0,
      ofGreedy: 0,
    };
    for (const golden of cases) {
      const embedded = golden.pixels && (await embeddedRows(folder, golden));
      await compareCase(opened.device, golden, embedded, total);
    }
    const error = Math.sqrt(total.squares / total.goldenSquares);
    return {
      device: `${opened.device.info.name}, ${opened.device.info.isa}`,
      rows: total.rows,
      relativeError: Number(error.toPrecision(3)),
      largestError: Number(total.largest.toPrecision(3)),
      sameBest: total.sameBest,
      sameBitsInBothLanes: total.sameBits,
      greedyTokens: `${total.greedy} of ${total.ofGreedy}`,
      passed: error < limits[weights] && total.sameBits === total.rows,
    };
  } finally {
    await opened.device.close();
  }
}

/** What the image of a prompt is to the model: rows for each of its tiles. */
async function embeddedRows(folder, { tokens, pixels }) {
  const checkpoint = await readCheckpoint(folder);
  const { hidden, vision } = checkpoint.spec;
  const encoder = openVisionEncoder(checkpoint, { checkFinite: true, threads: 1 });
  const values = await encoder.encode(pixels, pixels.length / (3 * vision.imageSize ** 2));
  encoder.close();
  const places = [...tokens.keys()].filter((place) => tokens[place] === vision.imageTokenId);
  if (places.length * hidden !== values.length)
    throw new Error(`the image is not ${places.length} tokens long`);
  const positions = Int32Array.from(places.filter((_, index) => index % vision.tokensPerTile === 0));
  const image = { key: 0, rows: Promise.resolve(values) };
  return (await embedPrompt(tokens, [{ image, positions }], vision.tokensPerTile)).embedded;
}

async function compareCase(opened, { tokens, rows, greedy }, embedded, total) {
  const positions = [...rows.keys()].sort((a, b) => a - b);
  const prompt = { tokens, embedded };
  const byPrefill = await readLogits(opened, 'prefill', prompt, cuts(positions));
  const byDecode = await readLogits(opened, 'decode', prompt, singles(positions));
  for (const position of positions) {
    const expected = rows.get(position);
    const found = byDecode.get(position);
    for (const [index, value] of expected.entries()) {
      const difference = found[index] - value;
      total.squares += difference * difference;
      total.goldenSquares += value * value;
      total.largest = Math.max(total.largest, Math.abs(difference));
      if (!Number.isFinite(difference)) throw new Error(`the logits of token ${position} are not finite`);
    }
    total.rows++;
    if (best(found.subarray(0, expected.length)) === best(expected)) total.sameBest++;
    const other = byPrefill.get(position);
    if (other === undefined || Buffer.from(other.buffer).equals(Buffer.from(found.buffer))) total.sameBits++;
  }
  const tokensFound = await generate(opened, prompt, greedy.length);
  total.ofGreedy += greedy.length;
  const different = tokensFound.findIndex((token, index) => token !== greedy[index]);
  total.greedy += different === -1 ? greedy.length : different;
}

/** Ends of a few chunks of unlike lengths, the last one at the end of all. */
function cuts(positions) {
  const end = positions.at(-1) + 1;
  return [...new Set([1, 8, 33, end].filter((cut) => cut <= end))];
}

/** Ends of single tokens: of all whose logits are known, and of some before the last. */
function singles(positions) {
  const end = positions.at(-1) + 1;
  const first = Math.min(positions[0] + 1, Math.max(1, end - 16));
  return Array.from({ length: end - first + 1 }, (_, index) => first + index);
}

/** Logits of the last token of each chunk, by its position. The chunks end at `ends`. */
async function readLogits(opened, lane, { tokens, embedded }, ends) {
  const logits = new Map();
  open(opened, tokens.length, embedded);
  opened.partition(lane === 'prefill' ? opened.info.units : 0);
  let begin = 0;
  for (const end of ends) {
    for (let at = begin; at < end; at += 512) {
      const chunk = tokens.slice(at, Math.min(end, at + 512));
      const isLast = at + chunk.length === end;
      const result = await opened[lane].run(stepOf(chunk, isLast ? Want.logits : Want.nothing));
      if (isLast) logits.set(end - 1, result.logits.get(0));
    }
    begin = end;
  }
  opened.closeSlot(0);
  return logits;
}

async function generate(opened, { tokens, embedded }, count) {
  open(opened, tokens.length + count, embedded);
  opened.partition(opened.info.units);
  let result;
  for (let at = 0; at < tokens.length; at += 512) {
    result = await opened.prefill.run(stepOf(tokens.slice(at, at + 512), Want.sample));
  }
  const found = [result.tokens[0]];
  opened.partition(0);
  while (found.length < count)
    found.push((await opened.decode.run(stepOf(new Int32Array(), Want.sample))).tokens[0]);
  opened.closeSlot(0);
  return found;
}

function open(opened, tokens, embedded) {
  opened.openSlot(0, greedySampling, embedded);
  if (!opened.kv.reserve(0, tokens)) throw new Error(`no room for ${tokens} tokens`);
}

function stepOf(tokens, wants) {
  return {
    slots: Int32Array.of(0),
    counts: Int32Array.of(tokens.length),
    tokens,
    wants: Uint8Array.of(wants),
  };
}

function best(values) {
  return values.indexOf(Math.max(...values));
}

function rowsOf(logits, count) {
  const vocab = logits.length / count;
  return new Map(
    Array.from({ length: count }, (_, row) => [row, logits.subarray(row * vocab, (row + 1) * vocab)]),
  );
}

/** The tensors of a safetensors file, float32 and int32. */
function readTensors(file) {
  const bytes = readFileSync(file);
  const begin = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, begin));
  delete header.__metadata__;
  return Object.fromEntries(
    Object.entries(header).map(
      ([
        name,
        {
          dtype,
          data_offsets: [from, to],
        },
      ]) => {
        const { buffer } = Uint8Array.from(bytes.subarray(begin + from, begin + to));
        return [name, dtype === 'F32' ? new Float32Array(buffer) : new Int32Array(buffer)];
      },
    ),
  );
}
