import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { EngineError } from '../errors.js';
import type { Checkpoint } from '../model/model-spec.js';
import { readSafetensorsHeader } from '../model/safetensors.js';
import type { LayerReport } from './convert-layer.js';
import type { ConvertedTensor, HiddenStates } from './kv-head-conversion.js';
import { compact, matrix } from './matrix.js';
import { type WrittenTensor, writeSafetensors } from './safetensors-writer.js';
import { encode } from './tensor-values.js';
import type { WeightReader } from './weight-reader.js';

interface State {
  /** What the conversion depends on: another one must not go on with its layers. */
  readonly fingerprint: string;
  readonly layers: readonly LayerReport[];
  /** Of each window. */
  readonly rows: readonly number[];
}

/** Weights in any form, and what describes the original's figures. */
const notCopied =
  /\.(safetensors|bin|pt|pth|gguf|h5|msgpack|onnx)$|\.index\.json$|^config\.json$|^README\.md$|^\./i;

/**
 * Where a conversion grows: `OUT.partial`, layer by layer, so that a stopped one goes on. It becomes `OUT` when it is
 * whole, in one step.
 */
export class ConversionFolder {
  readonly #partial: string;
  #layers: LayerReport[] = [];

  /** Throws `EngineError('invalid_request')` if `out` holds something, or another conversion to it was left off. */
  constructor(
    private readonly out: string,
    private readonly fingerprint: string,
  ) {
    this.#partial = `${out}.partial`;
    if (existsSync(out) && readdirSync(out).length > 0) {
      throw new EngineError('invalid_request', `${out} is not empty: name a new folder, or remove this one`);
    }
    const state = this.#state();
    if (!state) {
      mkdirSync(this.#partial, { recursive: true });
      return;
    }
    if (state.fingerprint !== fingerprint) {
      throw new EngineError(
        'invalid_request',
        `${this.#partial} holds a conversion that was stopped, of another model or with other options: ` +
          'give the same ones and it goes on, or remove it',
      );
    }
    this.#layers = [...state.layers];
  }

  get layers(): readonly LayerReport[] {
    return this.#layers;
  }

  /** Those behind the last layer that is done; undefined before the first. */
  hiddenStates(hidden: number): HiddenStates | undefined {
    const state = this.#state();
    if (!state || state.layers.length === 0) return undefined;
    const read = (name: string) => {
      const bytes = readFileSync(this.#at(`${name}-${state.layers.length}.f64`));
      const numbers = new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
      let at = 0;
      return state.rows.map((rows) => {
        const data = numbers.slice(at, at + rows * hidden);
        at += rows * hidden;
        return matrix(rows, hidden, data);
      });
    };
    return { original: read('original'), converted: read('converted') };
  }

  /** Keeps a layer, so that a later run begins behind it. */
  addLayer(
    tensors: readonly ConvertedTensor[],
    report: LayerReport,
    hidden: HiddenStates,
    reader: WeightReader,
  ) {
    const done = this.#layers.length;
    writeSafetensors(
      this.#at(layerFile(done)),
      tensors.map(({ name, matrix: m }): WrittenTensor => {
        const { dtype, shape } = reader.entry(name);
        return {
          name,
          dtype,
          shape: shape.length === 1 ? [m.cols] : [m.rows, m.cols],
          bytes: () => encode(compact(m).data, dtype),
        };
      }),
    );
    for (const name of ['original', 'converted'] as const) {
      const matrices = hidden[name];
      writeFileSync(
        this.#at(`${name}-${done + 1}.f64`),
        Buffer.concat(
          matrices.map(({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength)),
        ),
      );
    }
    this.#layers.push(report);
    const rows = hidden.original.map((m) => m.rows);
    const state: State = { fingerprint: this.fingerprint, layers: this.#layers, rows };
    writeFileSync(this.#at('state.json.part'), JSON.stringify(state));
    renameSync(this.#at('state.json.part'), this.#at('state.json'));
    for (const name of ['original', 'converted']) rmSync(this.#at(`${name}-${done}.f64`), { force: true });
  }

  /** Writes the model, its other files and `files` beside it, and gives the folder its name. */
  async finish(
    checkpoint: Checkpoint,
    reader: WeightReader,
    kvHeads: number,
    files: Readonly<Record<string, string>>,
  ): Promise<void> {
    await this.#writeWeights(checkpoint, reader);
    const config = JSON.parse(readFileSync(path.join(checkpoint.folder, 'config.json'), 'utf8')) as object;
    writeFileSync(
      this.#at('config.json'),
      `${JSON.stringify({ ...config, num_key_value_heads: kvHeads }, null, 2)}\n`,
    );
    for (const entry of readdirSync(checkpoint.folder, { withFileTypes: true })) {
      const file = path.join(checkpoint.folder, entry.name);
      // Folders of a download cache hold links to files.
      if (entry.isDirectory() || notCopied.test(entry.name)) continue;
      copyFileSync(file, this.#at(entry.name));
    }
    for (const [name, content] of Object.entries(files)) writeFileSync(this.#at(name), content);
    for (const name of readdirSync(this.#partial)) {
      if (/^(layer-\d+\.safetensors|(original|converted)-\d+\.f64|state\.json)$/.test(name))
        rmSync(this.#at(name));
    }
    if (existsSync(this.out)) rmdirSync(this.out);
    renameSync(this.#partial, this.out);
  }

  /** In as many files as the original has, under their names. */
  async #writeWeights({ files, tensors }: Checkpoint, reader: WeightReader): Promise<void> {
    const converted = new Map<string, WrittenTensor>();
    for (const layer of this.#layers.keys()) {
      const file = this.#at(layerFile(layer));
      for (const { name, shape, begin, end } of await readSafetensorsHeader(file)) {
        const { dtype } = reader.entry(name);
        converted.set(name, { name, dtype, shape, bytes: () => readFileSync(file).subarray(begin, end) });
      }
    }
    let total = 0;
    const weightMap: Record<string, string> = {};
    for (const [index, file] of files.entries()) {
      const name = path.basename(file);
      const own = tensors.filter((entry) => entry.file === index);
      total += writeSafetensors(
        this.#at(name),
        own.map((tensor): WrittenTensor => {
          const entry = reader.entry(tensor.name);
          return converted.get(entry.name) ?? { ...entry, bytes: () => reader.bytes(entry) };
        }),
      );
      for (const entry of own) weightMap[entry.name] = name;
    }
    if (path.basename(files[0]!) === 'model.safetensors') return;
    const index = { metadata: { total_size: total }, weight_map: weightMap };
    writeFileSync(this.#at('model.safetensors.index.json'), `${JSON.stringify(index, null, 2)}\n`);
  }

  #state(): State | undefined {
    const file = this.#at('state.json');
    return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as State) : undefined;
  }

  #at(name: string): string {
    return path.join(this.#partial, name);
  }
}

function layerFile(layer: number): string {
  return `layer-${layer}.safetensors`;
}
