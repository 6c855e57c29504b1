import { z } from 'zod';
import { pressureLevels } from './kv-pressure.js';
import { longestTimerMs } from './longest-timer.js';

/**
 * Every setting there is: its type, bounds, default and help text. Flags, environment variables and config-file keys
 * are all derived from this one schema: `engine.maxSequences` is `--max-sequences`, `TANDEM_MAX_SEQUENCES` and
 * `engine: { maxSequences }`. So the last part of a name is unique over all sections. What the type cannot say stands in
 * `meta`: `flag` names a flag that differs from its key, `file` marks a path, which is relative to where it was written.
 */

const bytesExpected = 'expected bytes, such as 1073741824, 512MiB or 4GB';

/** Accepts 1073741824, "512MiB", "4GB"; gives bytes. */
const bytes = z
  .union([z.number(), z.string()], bytesExpected)
  .transform((value, context) => {
    if (typeof value === 'number') return value;
    const match = /^\s*(\d+(?:\.\d+)?)\s*(B|K|M|G|KB|MB|GB|KiB|MiB|GiB)?\s*$/i.exec(value);
    if (!match) {
      context.addIssue({ code: 'custom', message: bytesExpected });
      return z.NEVER;
    }
    const unit = (match[2] ?? 'B').toUpperCase();
    const base = unit.endsWith('IB') || unit.length === 1 ? 1024 : 1000;
    const power = 'BKMG'.indexOf(unit[0] ?? 'B');
    return Math.floor(Number(match[1]) * base ** power);
  })
  .pipe(z.int().nonnegative());

/** Compared as it is with what browsers send, so that nothing else would ever let anyone in. */
const origin = z
  .string()
  .refine(
    isOrigin,
    'expected an origin as browsers send it, such as https://app.example or http://localhost:3000, or * for any',
  );

function isOrigin(text: string): boolean {
  if (text === '*' || text === 'null') return true;
  if (text.includes('*')) return false;
  if (/^https?:/i.test(text)) return URL.canParse(text) && new URL(text).origin === text;
  // Of apps and extensions.
  return /^[a-z][a-z\d+.-]*:\/\/[^\s/]+$/.test(text);
}

export const ModelSettings = z.strictObject({
  path: z
    .string()
    .default('models/demo')
    .meta({ description: 'model folder in Hugging Face layout', flag: 'model', file: true }),
  servedModelName: z.string().optional().describe("name clients use; the folder's name if absent"),
  weights: z
    .enum(['bf16', 'int8', 'int4'])
    .default('int8')
    .describe('class the weights are packed to at load'),
  checkFinite: z.boolean().default(false).describe('refuse weights that hold NaN or infinity'),
  chatTemplate: z
    .string()
    .optional()
    .meta({ description: "file with a chat template to use instead of the model's own", file: true }),
});

export const EngineSettings = z.strictObject({
  device: z
    .enum(['auto', 'cpu', 'cuda'])
    .default('auto')
    .describe(
      'what to compute on: auto takes a GPU where one can be used (docs/cuda.md), else the processor',
    ),
  gpu: z.int().min(0).max(63).optional().describe('number of the GPU, as nvidia-smi -L counts; 0 if absent'),
  gpuMemoryFraction: z
    .number()
    .min(0.05)
    .max(0.98)
    .optional()
    .describe("part of the GPU's free memory for weights, activations and KV together; 0.9 if absent"),
  kv: z
    .enum(['exact', 'int8', 'int4', 'int2', 'zip', 'pack'])
    .default('exact')
    .describe(
      'precision of the KV cache: exact is bf16; int4 and int2 for all but recent tokens, zip for each page the one that its attention is worth; pack holds sequences of any length in bounded memory (docs/kv-cache.md)',
    ),
  zipTau: z
    .number()
    .min(0)
    .max(1)
    .default(0.99)
    .describe('part of the attention that the better pages receive under zip: the rest are int2'),
  prefillTau: z
    .number()
    .min(0)
    .max(1)
    .default(1)
    .describe(
      'part of the attention that the older pages which long prompts look at receive; 1: they look at all of them (docs/kv-cache.md)',
    ),
  kvRecentTokens: z
    .int()
    .min(32)
    .max(65_536)
    .default(64)
    .describe('newest tokens that are held as int8 under int4, int2 and zip; whole pages of 32'),
  packSinkTokens: z
    .int()
    .min(32)
    .max(65_536)
    .default(64)
    .describe('first tokens of a sequence that are never given up under pack; whole pages of 32'),
  packRecentTokens: z
    .int()
    .min(32)
    .max(65_536)
    .default(512)
    .describe('newest tokens that stay exact under pack; whole pages of 32'),
  packMidTokens: z
    .int()
    .min(32)
    .max(16_777_216)
    .default(16_384)
    .describe(
      'tokens between those that a sequence holds under pack, as int4; older ones become far, or are given up',
    ),
  packFarTokens: z
    .int()
    .min(0)
    .max(16_777_216)
    .default(0)
    .describe(
      'older tokens that a sequence holds under pack in host memory, of which KV memory has about a ninth; still older ones are given up',
    ),
  packFarMemory: bytes
    .default(4 * 2 ** 30)
    .describe('bytes of host memory for them, of all sequences; on a GPU it is pinned'),
  packTopPages: z
    .int()
    .min(1)
    .max(4096)
    .default(16)
    .describe('pages of 32 tokens of these that a token sees under pack: those that promise most attention'),
  kvPressure: z
    .enum(pressureLevels)
    .default('off')
    .describe(
      'how far older tokens of running streams are squeezed when memory is short, before anyone waits or gives way: into int8, then int4 or zip; pack, after zip, also gives up what is older than --pack-mid-tokens; under --kv exact, and but for int8 under --kv int8',
    ),
  kvMemory: bytes
    .optional()
    .describe('bytes of the KV cache; a part of the free memory if absent, on a GPU what the weights leave'),
  maxSequences: z.int().min(1).max(1024).default(64).describe('sequences that run at once'),
  maxStepTokens: z
    .int()
    .min(32)
    .max(16384)
    .optional()
    .describe('tokens of one prefill step at most; 512 if absent, 2048 on a GPU'),
  scheduler: z
    .enum(['nexus', 'chunked', 'prefill-first', 'static', 'reactive'])
    .default('nexus')
    .describe('how prompts and running streams share the device (docs/nexus.md)'),
  prefillOrder: z
    .enum(['spf', 'fcfs'])
    .default('spf')
    .describe('prompts: shortest first, waiting counted, or first come, first served'),
  decodeSlack: z
    .number()
    .min(1)
    .max(100)
    .default(1.5)
    .describe(
      'how much longer the time between tokens may get while prompts are read; the nexus and reactive schedulers',
    ),
  tbtTargetMs: z
    .int()
    .min(1)
    .optional()
    .describe(
      'time between tokens to hold, in ms; steps vary, so 0.6 of it is aimed at, in place of the slack where that is longer',
    ),
  ttftTargetMs: z
    .int()
    .min(1)
    .optional()
    .describe('time to first token to hold while KV memory is short, in ms; the nexus scheduler'),
  prefillShare: z
    .number()
    .min(0.01)
    .max(0.99)
    .default(0.5)
    .describe("prompts' share of the device under the static scheduler"),
  swapMemory: bytes
    .default(1024 * 1024 * 1024)
    .describe('host memory for the KV of streams that gave way; beyond it they are computed anew'),
  imageMemory: bytes
    .default(512 * 1024 * 1024)
    .describe(
      'host memory for images, as pixels until they are encoded and as rows of embeddings then, which are kept for requests that show them again; requests whose images do not fit beside those of others are answered 429',
    ),
  contextLength: z
    .int()
    .min(32)
    .optional()
    .describe(
      "longest prompt and output together; the model's if absent, and never more than that but under --kv pack",
    ),
  cores: z.int().min(1).max(1024).optional().describe('cores of the processor to compute on; all if absent'),
  isa: z
    .enum(['amx', 'avx512', 'avx512-vnni', 'avx-vnni', 'avx2', 'portable'])
    .optional()
    .describe('instruction set of the processor; the best if absent'),
  maxQueue: z
    .int()
    .min(1)
    .default(256)
    .describe(
      'requests that may wait before new ones are answered 429; as many each may wait for large bodies, large grammars or images to be prepared',
    ),
  queueTimeoutMs: z.int().min(0).default(0).describe('longest wait to start, in ms; 0: no limit'),
  prefixCache: z
    .boolean()
    .default(true)
    .describe('keep KV of finished prompts for requests that begin alike'),
});

export const ServerSettings = z.strictObject({
  host: z.string().default('127.0.0.1').describe('address to listen on'),
  port: z.int().min(0).max(65535).default(8000).describe('port to listen on; 0: any free one'),
  apiKey: z.array(z.string().min(1)).default([]).describe('accepted API keys; none: no authentication'),
  apiKeyFile: z.string().optional().meta({
    description: 'file with one API key a line, or keys with limits as JSON (docs/api.md)',
    file: true,
  }),
  requestsPerMinute: z
    .int()
    .min(1)
    .optional()
    .describe('requests a minute of a key that has no limit of its own; no limit if absent'),
  tokensPerMinute: z
    .int()
    .min(1)
    .optional()
    .describe('tokens a minute, read and written, of a key that has no limit of its own; no limit if absent'),
  tokensPerDay: z
    .int()
    .min(1)
    .optional()
    .describe('tokens a day, read and written, of a key that has no quota of its own; no quota if absent'),
  maxConnections: z
    .int()
    .min(1)
    .optional()
    .describe(
      'connections at once, others are closed; if absent the limit of open files, less 256 for the server itself',
    ),
  socketsPerKey: z.int().min(1).default(4096).describe('WebSockets that a key may have open'),
  framesPerSecond: z
    .int()
    .min(1)
    .default(5000)
    .describe('frames a second that are read from a WebSocket; what is sent faster waits'),
  adminKey: z
    .string()
    .min(16, 'must have at least 16 characters')
    .optional()
    .describe(
      'key of /v1/admin, at least 16 characters, better given as an environment variable; there is no /v1/admin if absent',
    ),
  bodyLimit: bytes
    .default(16 * 1024 * 1024)
    .describe('largest request body; 16 times as much may wait to be prepared'),
  maxChoices: z.int().min(1).max(128).default(16).describe('largest n'),
  maxImages: z
    .int()
    .min(0)
    .max(256)
    .default(8)
    .describe('images of a request, with those of the conversation that it continues'),
  maxImagePixels: z
    .int()
    .min(1)
    .max(2 ** 28)
    .default(40_000_000)
    .describe('pixels of an image, width times height, before it is resized'),
  corsOrigin: z
    .array(origin)
    .default([])
    .describe('origins that browsers may call from, as https://app.example, or * for any; none: CORS is off'),
  store: z.boolean().default(true).describe('keep responses, so that others can continue them by id'),
  storeFile: z
    .string()
    .optional()
    .meta({ description: 'SQLite file to keep responses in; in memory if absent', file: true }),
  storeTtlSeconds: z
    .int()
    .min(1)
    .default(30 * 24 * 60 * 60)
    .meta({
      description: 'how long a response is kept after it was last continued, in s',
      flag: 'store-ttl',
    }),
  storeLimit: bytes
    .default(256 * 1024 * 1024)
    .describe('bytes of responses kept; beyond it those go that were left alone for longest'),
  gracePeriodMs: z
    .int()
    .min(0)
    .max(longestTimerMs)
    .default(30_000)
    .describe('time running streams get to finish at SIGTERM'),
});

export const LogSettings = z.strictObject({
  logLevel: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'silent'])
    .default('info')
    .describe('least level logged'),
  topics: z
    .array(z.enum(['scheduler']))
    .default([])
    .meta({ description: 'logged in detail: scheduler (each decision, at level info)', flag: 'log' }),
});

export const Settings = z.strictObject({
  model: ModelSettings.prefault({}),
  engine: EngineSettings.prefault({}),
  server: ServerSettings.prefault({}),
  log: LogSettings.prefault({}),
});

export type ModelSettings = z.output<typeof ModelSettings>;
export type EngineSettings = z.output<typeof EngineSettings>;
export type ServerSettings = z.output<typeof ServerSettings>;
export type LogSettings = z.output<typeof LogSettings>;
export type Settings = z.output<typeof Settings>;
