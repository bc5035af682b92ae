import { Command, Option } from 'commander';
import { existingFolder, usageExits } from './engineFlags.ts';
import { dataFolder } from './flags.ts';

const EXAMPLES = `
Example:
  $ tuneloop merge --base-model models/SmolLM2-135M-Instruct --adapter out/adapter --output out/merged`;

interface MergeFlags {
  readonly baseModel?: string;
  readonly adapter: string;
  readonly output: string;
}

/** `tuneloop merge`: an adapter folded into its base. */
export function mergeCommand(): Command {
  const command = new Command('merge')
    .description(
      'Folds an adapter into its base and writes a model folder that Transformers loads (safetensors, fp32).',
    )
    .option(
      '--model, --base-model <model>',
      'a folder, a .gguf file, a hub id, or nano (default: the base that the adapter names)',
    )
    .addOption(new Option('--adapter <dir>', 'a PEFT adapter').argParser(existingFolder).makeOptionMandatory())
    .addOption(new Option('--output <dir>', 'where the model goes').argParser(dataFolder).makeOptionMandatory())
    .addHelpText('after', EXAMPLES);
  usageExits(command);
  return command.action(async ({ baseModel, adapter, output }: MergeFlags) => {
    const { writeMerged } = await import('../engine/writeModel.ts');
    await writeMerged(baseModel, adapter, output);
    console.log(`wrote ${output}`);
  });
}
