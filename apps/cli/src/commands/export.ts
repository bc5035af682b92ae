import { Command, Option } from 'commander';
import { commandLine, existingFolder, usageExits } from './engineFlags.ts';
import { dataFolder } from './flags.ts';

const FORMATS = ['peft', 'safetensors'] as const;

const EXAMPLES = `
Examples:
  $ tuneloop export --adapter out/adapter --format peft --output out/peft
  $ tuneloop export --adapter out/adapter --format safetensors --output out/model`;

interface ExportFlags {
  readonly model?: string;
  readonly adapter?: string;
  readonly format: (typeof FORMATS)[number];
  readonly output: string;
}

/** `tuneloop export`: models and adapters for other programs. */
export function exportCommand(): Command {
  const command = new Command('export')
    .description('Writes a model or an adapter in the format of another program.')
    .option(
      '--base-model, --model <model>',
      'a folder, a .gguf file, or nano (default: the base that the adapter names)',
    )
    .addOption(new Option('--adapter <dir>', 'a PEFT adapter').argParser(existingFolder))
    .addOption(new Option('--format <format>').choices(FORMATS).makeOptionMandatory())
    .addOption(new Option('--output <dir>', 'where it goes').argParser(dataFolder).makeOptionMandatory())
    .addHelpText('after', EXAMPLES);
  usageExits(command);
  return command.action(async ({ model, adapter, format, output }: ExportFlags) => {
    const line = commandLine(command);
    const { writeAdapter, writeMerged } = await import('../engine/writeModel.ts');
    if (format === 'peft') {
      if (adapter === undefined) return line.usage('--format peft is for adapters: give --adapter');
      await writeAdapter(adapter, model, output);
    } else {
      if (model === undefined && adapter === undefined) line.usage('give --model, --adapter or both');
      await writeMerged(model, adapter, output);
    }
    console.log(`wrote ${output}`);
  });
}
