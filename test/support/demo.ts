import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { SlotSampling } from '../../engine/device/device.js';
import { greedySampling } from '../../engine/sampling/greedy.js';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
export const demoFolder = path.join(root, 'models/demo');

/** Prompts and what an independent PyTorch implementation made of them. */
export interface GoldenCase {
  readonly prompt: string;
  readonly prompt_ids: number[];
  readonly greedy_ids: number[];
  readonly greedy_text: string;
  /** The first 16 logits behind the prompt, float32 arithmetic on the bf16 weights. */
  readonly logits16: number[];
}

export function goldenCases(): GoldenCase[] {
  return JSON.parse(readFileSync(path.join(demoFolder, 'eval/golden.json'), 'utf8'));
}

export interface RetrievalCase {
  readonly length: number;
  readonly messages: { role: 'system' | 'user'; content: string }[];
  readonly prompt: string;
  readonly answer: string;
}

export function retrievalCases(): RetrievalCase[] {
  const lines = readFileSync(path.join(demoFolder, 'eval/retrieval.jsonl'), 'utf8').trim().split('\n');
  return lines.map((line) => JSON.parse(line));
}

export const greedySlot: SlotSampling = { ...greedySampling, seed: 1n };
