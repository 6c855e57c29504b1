/** What a data sheet says of a GPU. Dense bf16 with fp32 accumulation; bytes and FLOP a second. */
export interface GpuSheet {
  readonly name: string;
  /** Streaming multiprocessors: the compute units. */
  readonly units: number;
  readonly flops: number;
  readonly bandwidth: number;
  readonly memoryBytes: number;
  /** To the host, each way, as copies reach it. */
  readonly hostBandwidth: number;
}

const sheet = (
  name: string,
  units: number,
  teraflops: number,
  gigabytesPerSecond: number,
  gigabytes: number,
  hostGigabytesPerSecond: number,
): GpuSheet => ({
  name,
  units,
  flops: teraflops * 1e12,
  bandwidth: gigabytesPerSecond * 1e9,
  memoryBytes: gigabytes * 1e9,
  hostBandwidth: hostGigabytesPerSecond * 1e9,
});

/** From NVIDIA's data sheets; host bandwidth is four fifths of PCIe's (16 lanes of generation 4 or 5). */
export const gpus = {
  l20: sheet('NVIDIA L20', 92, 119.5, 864, 48, 25),
  l40s: sheet('NVIDIA L40S', 142, 362, 864, 48, 25),
  rtx4090: sheet('NVIDIA RTX 4090', 128, 165, 1008, 24, 25),
  a100: sheet('NVIDIA A100 80 GB', 108, 312, 2039, 80, 25),
  h100: sheet('NVIDIA H100 SXM', 132, 989, 3350, 80, 50),
  h200: sheet('NVIDIA H200 SXM', 132, 989, 4800, 141, 50),
} satisfies Record<string, GpuSheet>;

export type GpuName = keyof typeof gpus;
