import type { Device, GrammarHandle } from '../device/device.js';
import type { CompiledGrammar } from './compile.js';

interface Open {
  readonly handle: GrammarHandle;
  users: number;
}

/** Grammars that stay open though nobody follows them, with the masks that were found for them. */
const mostIdle = 16;

/** The grammars that a device has open: those in use, and those used last. */
export class OpenGrammars {
  /** By key; the one used last comes last. */
  readonly #open = new Map<string, Open>();

  constructor(private readonly device: Pick<Device, 'openGrammar' | 'closeGrammar'>) {}

  /** Throws if the device's vocabulary cannot write it. */
  use({ key, tables }: CompiledGrammar): GrammarHandle {
    const grammar = this.#open.get(key) ?? { handle: this.device.openGrammar(tables), users: 0 };
    grammar.users++;
    this.#open.delete(key);
    this.#open.set(key, grammar);
    return grammar.handle;
  }

  release({ key }: CompiledGrammar): void {
    this.#open.get(key)!.users--;
    const idle = [...this.#open].filter(([, { users }]) => users === 0);
    for (const [oldest, { handle }] of idle.slice(0, Math.max(0, idle.length - mostIdle))) {
      this.device.closeGrammar(handle);
      this.#open.delete(oldest);
    }
  }
}
