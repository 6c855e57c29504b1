import {
  architectureName,
  type CudaDevice,
  type CudaInfo,
  howToBuild,
  whyNotOn,
} from '../../engine/index.js';
import { decoderAdvice } from '../images/decoder.js';
import type { Facts } from './doctor-facts.js';

export interface Finding {
  /** A `problem` keeps the server from running; a `hint` costs speed or is good to know. */
  readonly level: 'ok' | 'hint' | 'problem';
  readonly subject: string;
  readonly found: string;
  readonly advice?: string;
}

/** Judges the facts; pure. */
export function judge(facts: Facts): Finding[] {
  return [
    judgeNode(facts),
    { level: 'ok', subject: 'processor', found: `${facts.cpuName}, ${facts.cores} cores usable` },
    judgeIsa(facts),
    judgeMemory(facts),
    ...judgeHugePages(facts),
    ...judgeTools(facts),
    judgeGpu(facts),
    ...judgeCuda(facts),
    judgeDeviceChoice(facts),
    ...judgeModel(facts),
  ];
}

function judgeNode({ nodeVersion, platform }: Facts): Finding {
  const found = `${nodeVersion} on ${platform}`;
  if (Number.parseInt(nodeVersion, 10) >= 20) return { level: 'ok', subject: 'Node.js', found };
  return { level: 'problem', subject: 'Node.js', found, advice: 'install Node.js 20 or newer' };
}

const isaAdvice: Record<string, string> = {
  avx2: 'a processor with AVX-512 or AMX computes prompts several times faster',
  portable: 'this processor has no instruction set that Tandem has kernels for; expect it to be slow',
};

function judgeIsa({ isas, forcedIsa }: Facts): Finding {
  const subject = 'instruction set';
  if (isas instanceof Error) {
    return { level: 'problem', subject, found: isas.message, advice: 'build the addon: npm run setup' };
  }
  const list = `of ${isas.join(', ')}`;
  if (forcedIsa !== undefined) {
    if (!isas.includes(forcedIsa)) {
      const advice = 'leave --isa (TANDEM_ISA) away, and the best one is chosen';
      return {
        level: 'problem',
        subject,
        found: `${forcedIsa} is asked for and not there; there is ${isas.join(', ')}`,
        advice,
      };
    }
    return { level: 'ok', subject, found: `${forcedIsa} (asked for, ${list})` };
  }
  const best = isas[0] ?? 'portable';
  const advice = isaAdvice[best];
  const found = `${best} (the best ${list})`;
  return advice ? { level: 'hint', subject, found, advice } : { level: 'ok', subject, found };
}

function judgeMemory({ memoryTotalBytes, memoryFreeBytes, device, model }: Facts): Finding {
  const subject = 'memory';
  const found = `${gibibytes(memoryFreeBytes)} free of ${gibibytes(memoryTotalBytes)}`;
  if (model instanceof Error) return { level: 'ok', subject, found };
  const isOnGpu = !(device instanceof Error) && device.kind === 'cuda';
  const needed = (isOnGpu ? 0 : model.weightBytes) + model.visionBytes;
  if (needed < memoryFreeBytes) return { level: 'ok', subject, found };
  return {
    level: 'problem',
    subject,
    found: `${found}; the weights need ${gibibytes(needed)} as ${model.weights}`,
    advice:
      model.weights === 'int4'
        ? 'take a smaller model'
        : 'take smaller weights, such as --weights int4, or a smaller model',
  };
}

function judgeHugePages({ hugePages }: Facts): Finding[] {
  if (hugePages === undefined) return [];
  if (hugePages !== 'never') return [{ level: 'ok', subject: 'huge pages', found: hugePages }];
  const advice = 'as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled';
  return [
    { level: 'hint', subject: 'huge pages', found: 'off, which makes reading the weights slower', advice },
  ];
}

function judgeTools({ tools, isPacked }: Facts): Finding[] {
  if (isPacked) return [];
  const builder = tools.ninja ? `ninja ${tools.ninja}` : tools.make && `make ${tools.make}`;
  const found: [string, string | undefined, string][] = [
    ['CMake', tools.cmake, 'cmake'],
    ['C++ compiler', tools.compiler, 'g++'],
    ['build tool', builder, 'ninja-build or make'],
  ];
  // The addon may be built already, so a missing tool is no problem yet.
  return found.map(([subject, version, install]) =>
    version
      ? { level: 'ok', subject, found: version }
      : {
          level: 'hint',
          subject,
          found: 'not found',
          advice: `needed to build the addon: install ${install}`,
        },
  );
}

function judgeGpu({ gpu, tools }: Facts): Finding {
  const subject = 'GPU';
  const nvcc = tools.nvcc ? `, nvcc ${tools.nvcc}` : '';
  if (gpu.names.length === 0 && !gpu.driverVersion)
    return { level: 'ok', subject, found: `none found${nvcc}` };
  const driver = gpu.driverVersion ? `, driver ${gpu.driverVersion}` : '';
  if (gpu.names.length > 0) {
    return { level: 'ok', subject, found: `${gpu.names.join('; ')}${driver}${nvcc}` };
  }
  const found = `a driver, but nvidia-smi names no GPU${driver}${nvcc}`;
  return { level: 'hint', subject, found, advice: 'see what "nvidia-smi" says' };
}

/** Only where there is a GPU, or a driver that the addon can talk to: elsewhere nobody asked. */
function judgeCuda({ cuda, gpu }: Facts): Finding[] {
  const subject = 'CUDA';
  if (cuda instanceof Error) return [];
  if (cuda.devices.length === 0) {
    if (gpu.names.length === 0 && cuda.driverVersion === '') return [];
    const advice = cuda.built ? 'see that this process may use the device files in /dev/nvidia*' : howToBuild;
    return [{ level: 'hint', subject, found: cuda.problem || 'the driver shows no device', advice }];
  }
  return cuda.devices.map((device) => judgeDevice(cuda, device));
}

function judgeDevice(cuda: CudaInfo, device: CudaDevice): Finding {
  const subject = 'CUDA';
  const size = `${device.sms} SMs, ${gibibytes(device.memoryBytes)}`;
  const what = `${device.name || 'a device'}, ${size}, compute capability ${device.computeCapability}`;
  const problem = whyNotOn(cuda, device);
  if (problem !== undefined) {
    return { level: 'hint', subject, found: what, advice: `it is not used: ${problem}` };
  }
  const kernels = `kernels for ${cuda.architectures.map(architectureName).join(', ')}`;
  if (device.whyNoSplit !== '') {
    const advice = 'prefill and decode share it by priority instead of by SMs';
    const found = `${what}, ${kernels}; no green contexts: ${device.whyNoSplit}`;
    return { level: 'hint', subject, found, advice };
  }
  const groups = `green contexts from ${device.smallestGroup} SMs on`;
  return {
    level: 'ok',
    subject,
    found: `${what}, driver for CUDA ${cuda.driverVersion}, ${kernels}, ${groups}`,
  };
}

/** What Tandem would compute on, and whether the weights fit a GPU. */
function judgeDeviceChoice({ device, model }: Facts): Finding {
  const subject = 'computes on';
  if (device instanceof Error) {
    const advice = 'leave --device (TANDEM_DEVICE) away, and what there is is taken';
    return { level: 'problem', subject, found: device.message, advice };
  }
  if (device.kind === 'cpu') return { level: 'ok', subject, found: 'the processor' };
  const room = device.found.memoryBytes * device.memoryFraction;
  const found = `GPU ${device.gpu}, ${device.found.name}, up to ${gibibytes(room)} of it`;
  if (model instanceof Error || model.weightBytes < room) return { level: 'ok', subject, found };
  return {
    level: 'problem',
    subject,
    found: `${found}; the weights need ${gibibytes(model.weightBytes)} as ${model.weights}`,
    advice:
      model.weights === 'bf16'
        ? 'take smaller weights, such as --weights int8, or a smaller model'
        : 'take a smaller model, or compute on the processor with --device cpu',
  };
}

function judgeModel({ model }: Facts): Finding[] {
  const subject = 'model';
  if (model instanceof Error) {
    const advice = 'docs/models.md says what a model folder needs';
    return [{ level: 'problem', subject, found: model.message, advice }];
  }
  const size = `${count(model.parameters)} parameters, context ${model.contextLength}, vocabulary ${model.vocab}`;
  const vision =
    model.visionBytes > 0 ? `, and ${gibibytes(model.visionBytes)} to read images, on the processor` : '';
  const found = `${model.folder}: ${model.family}, ${size}; ${gibibytes(model.weightBytes)} as ${model.weights}${vision}`;
  const findings: Finding[] = [{ level: 'ok', subject, found }];
  if (!model.chatTemplate) {
    const advice = 'chat requests will be refused: name one with --chat-template FILE';
    findings.push({ level: 'hint', subject: 'chat template', found: 'the model brings none', advice });
  }
  const { imageDecoder } = model;
  if (imageDecoder instanceof Error) {
    const found = `cannot be read: ${imageDecoder.message}`;
    findings.push({ level: 'hint', subject: 'images', found, advice: decoderAdvice });
  } else if (imageDecoder !== undefined) {
    findings.push({ level: 'ok', subject: 'images', found: `decoded by ${imageDecoder}` });
  }
  return findings;
}

function gibibytes(bytes: number): string {
  return bytes < 2 ** 30 ? `${(bytes / 2 ** 20).toFixed(0)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

function count(parameters: number): string {
  return parameters < 1e9
    ? `${(parameters / 1e6).toFixed(1)} million`
    : `${(parameters / 1e9).toFixed(2)} billion`;
}
