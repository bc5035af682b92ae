import { Command, Option } from 'commander';
import type { GgufType } from '../engine/writeModel.ts';
import { type CommandLine, commandLine, existingFolder, usageExits } from './engineFlags.ts';

const FORMATS = ['gguf', 'peft', 'safetensors'] as const;
const GGUF_TYPES: readonly GgufType[] = ['F32', 'F16', 'Q8_0'];

const EXAMPLES = `
Examples:
  $ tuneloop export --model models/SmolLM2-135M-Instruct --adapter out/adapter --format gguf --type Q8_0 --output out/tuned.gguf
  $ tuneloop export --adapter out/adapter --format gguf --output out/adapter.gguf
  $ tuneloop export --adapter out/adapter --format safetensors --output out/model
  $ tuneloop export --adapter out/adapter --format peft --output out/peft

gguf with --model is the whole model, an adapter folded in; with --adapter alone it is the adapter, for
llama.cpp's --lora. safetensors is always the whole model, peft the adapter alone.`;

interface ExportFlags {
  readonly model?: string;
  readonly adapter?: string;
  readonly format: (typeof FORMATS)[number];
  readonly type?: GgufType;
  readonly output: string;
}

/** `tuneloop export`: models and adapters for other programs. */
export function exportCommand(): Command {
  const command = new Command('export')
    .description('Writes a model or an adapter in the format of another program.')
    .option('--base-model, --model <model>', 'a folder, a .gguf file, a hub id, or nano')
    .addOption(new Option('--adapter <dir>', 'a PEFT adapter').argParser(existingFolder))
    .addOption(new Option('--format <format>').choices(FORMATS).makeOptionMandatory())
    .addOption(new Option('--type <type>', 'of the matrices of a GGUF model (default: F16)').choices(GGUF_TYPES))
    .requiredOption('--output <path>', 'where it goes: a file for gguf, else a folder')
    .addHelpText('after', EXAMPLES);
  usageExits(command);
  return command.action(async (flags: ExportFlags) => {
    await writeAs(flags, commandLine(command));
    console.log(`wrote ${flags.output}`);
  });
}

async function writeAs({ model, adapter, format, type, output }: ExportFlags, line: CommandLine): Promise<void> {
  const writers = await import('../engine/writeModel.ts');
  if (model === undefined && adapter === undefined) line.usage('give --model, --adapter or both');
  if (type !== undefined && format !== 'gguf') line.usage('--type is for --format gguf');
  if (format === 'gguf') {
    if (!output.endsWith('.gguf')) line.usage('--output must be a file that ends in .gguf');
    if (model !== undefined) return writers.writeGguf(model, adapter, output, type);
    if (type === 'Q8_0') return line.usage('an adapter is written as F32 or F16: give --model too for the whole model');
    return writers.writeAdapterGguf(adapter!, output, type);
  }
  if (format === 'safetensors') return writers.writeMerged(model, adapter, output);
  if (adapter === undefined) return line.usage('--format peft is for adapters: give --adapter');
  return writers.writeAdapter(adapter, model, output);
}
