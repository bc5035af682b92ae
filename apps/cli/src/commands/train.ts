import { availableParallelism } from 'node:os';
import { LORA_TARGETS, type LoraTarget } from '@tuneloop/engine/types';
import { Command, InvalidArgumentError, Option } from 'commander';
import { EXECUTORS, METHODS } from '../engine/trainSettings.ts';
import type { TableFlags } from '../engine/tabular/tableCommand.ts';
import type { TrainFlags } from '../engine/trainCommand.ts';
import {
  type CommandLine,
  commandLine,
  decimal,
  existingFile,
  existingFolder,
  memorySize,
  snakeCase,
  usageExits,
} from './engineFlags.ts';
import { dataFolder, integer } from './flags.ts';

const MAX_SEED = 2 ** 31 - 1;
const MAX_COUNT = 1_000_000;
const MAX_THREADS = 1_024;
const DEFAULT_SEED = 42;
const DEFAULT_R = 16;

const EXAMPLES = `
Examples:
  $ tuneloop train --base-model nano --dataset chats.jsonl --output out/adapter
  $ tuneloop train --base-model models/SmolLM2-135M-Instruct --dataset pairs.jsonl --method dpo \\
      --lora-r 16 --epochs 3 --validation-split 0.1 --output out/dpo
  $ tuneloop train --resume --output out/dpo
  $ tuneloop train --dataset table.csv --config model.yaml --output-dir out/classifier
  $ tuneloop train --dataset new.csv --config model.yaml --fine-tune --model-path out/classifier \\
      --learning-rate 1e-4 --epochs 5 --random-seed 42 --output-dir out/classifier-2

Datasets are JSON Lines, one example a line:
  {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}
  {"prompt": "…", "completion": "…"}
  {"prompt": "…", "chosen": "…", "rejected": "…"}                                     (dpo, kto, reward)
  {"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}  (dpo, kto, reward)
  {"prompt": "…", "completion": "…", "label": true}                                   (kto)
  {"prompt": "…", "completion": "…", "score": 0.5}                                    (reward)

Tables are CSV with a header; model.yaml names the column to predict ("target: outcome").

Ends with 0 when trained, 1 when it cannot be done, 2 for wrong flags, 130 when stopped by ctrl-C (resumable).`;

function projections(text: string): readonly LoraTarget[] {
  return [...new Set(text.split(','))].map((name) => {
    const target = LORA_TARGETS.find((known) => known === name.trim());
    if (target === undefined) throw new InvalidArgumentError(`give some of ${LORA_TARGETS.join(',')}.`);
    return target;
  });
}

function addDataOptions(command: Command): void {
  command
    .optionsGroup('Model and data:')
    .option('--base-model <model>', 'a folder in Hugging Face layout, a .gguf file, a hub id, or nano')
    .addOption(new Option('--adapter <dir>', 'PEFT adapter to go on from').argParser(existingFolder))
    .addOption(new Option('--dataset <file>', 'training data').argParser(existingFile))
    .addOption(new Option('--validation <file>', 'held-out data').argParser(existingFile).conflicts('validationSplit'))
    .addOption(
      new Option('--validation-split <share>', 'share of the dataset to hold out').argParser(
        decimal({ above: 0, max: 0.9 }),
      ),
    )
    .addOption(
      new Option('--max-length <n>', 'longest example, in tokens (default: 1024)').argParser(integer(1, MAX_COUNT)),
    )
    .option('--plain-text', 'join prompt and answer as they are, without the chat template')
    .addOption(new Option('--output-dir, --output <dir>', 'where the adapter goes').argParser(dataFolder))
    .option('--resume', 'go on with the stopped run in --output, with its settings', false)
    .option('--dry-run', 'say what would happen, and end', false);
}

function addMethodOptions(command: Command): void {
  command
    .optionsGroup('Training (defaults of each method: docs/fine-tuning.md):')
    .addOption(new Option('--method <method>', 'how to learn (default: what the dataset is made for)').choices(METHODS))
    .addOption(new Option('--epochs <n>', 'times each example is seen').argParser(integer(1, MAX_COUNT)))
    .addOption(new Option('--learning-rate <x>', 'the highest rate of the run').argParser(decimal({ above: 0 })))
    .addOption(new Option('--batch-size <n>', 'examples in one pass').argParser(integer(1, MAX_COUNT)))
    .addOption(
      new Option('--gradient-accumulation <n>', 'passes in one step (default: 1)').argParser(integer(1, MAX_COUNT)),
    )
    .addOption(new Option('--warmup-ratio <x>', 'share of steps with a rising rate').argParser(decimal({ max: 1 })))
    .addOption(new Option('--weight-decay <x>', 'decoupled decay of matrices').argParser(decimal({})))
    .addOption(
      new Option('--early-stopping <n>', 'evaluations (tables: epochs) without improvement to end after').argParser(
        integer(0, MAX_COUNT),
      ),
    )
    .addOption(new Option('--beta <x>', 'pull to the reference (dpo, kto)').argParser(decimal({ above: 0 })))
    .addOption(
      new Option('--random-seed, --seed <n>', 'same seed, same adapter')
        .argParser(integer(0, MAX_SEED))
        .default(DEFAULT_SEED),
    )
    .optionsGroup('LoRA:')
    .addOption(new Option('--lora-r <n>', `rank of the update (default: ${DEFAULT_R})`).argParser(integer(1, 1024)))
    .addOption(
      new Option('--lora-alpha <x>', 'the update is scaled by alpha / r (default: 2 r)').argParser(
        decimal({ above: 0 }),
      ),
    )
    .addOption(
      new Option(
        '--target-modules <names>',
        `projections to adapt (default: all: ${LORA_TARGETS.join(',')})`,
      ).argParser(projections),
    );
}

function addMachineOptions(command: Command): void {
  command
    .optionsGroup('Memory and speed:')
    .addOption(
      new Option('--threads <n>', 'CPU threads').argParser(integer(1, MAX_THREADS)).default(availableParallelism()),
    )
    .addOption(
      new Option('--memory <size>', 'the process may take, such as 2GB (default: most of what is free)').argParser(
        memorySize,
      ),
    )
    .option('--packing', 'fill rows with several examples: faster for short ones (sft)')
    .option('--load-in-4bit', 'hold the frozen base in 4 bits (QLoRA)')
    .addOption(
      new Option(
        '--executor <kind>',
        'whole-graph or, in a fraction of the memory, layer-wise (default: what fits)',
      ).choices(EXECUTORS),
    );
}

function addTableOptions(command: Command): void {
  command
    .optionsGroup('Tables (--dataset table.csv):')
    .addOption(new Option('--config <file>', 'what to learn from the table (YAML)').argParser(existingFile))
    .option('--fine-tune', 'go on from the classifier in --model-path', false)
    .addOption(new Option('--model-path <dir>', 'a trained classifier').argParser(existingFolder));
}

/** `tuneloop train`: fine-tunes a model on this machine, without any service. */
export function trainCommand(): Command {
  const command = new Command('train').description(
    'Fine-tunes a language model with LoRA on a JSON Lines dataset and writes a PEFT adapter; ' +
      'or trains a classifier on a CSV table.',
  );
  addDataOptions(command);
  addMethodOptions(command);
  addMachineOptions(command);
  addTableOptions(command);
  command.addHelpText('after', EXAMPLES);
  usageExits(command);
  return command.action(async (flags: TrainFlags & TableFlags) => {
    const line = commandLine(command);
    if (flags.config !== undefined || flags.dataset?.endsWith('.csv')) {
      checkTableFlags(flags, line);
      const { runTableTraining } = await import('../engine/tabular/tableCommand.ts');
      process.exitCode = await runTableTraining(flags);
      return;
    }
    for (const name of ['fineTune', 'modelPath']) {
      if (line.given(name))
        line.usage(`--${snakeCase(name, '-')} is for tables (--dataset table.csv --config model.yaml)`);
    }
    const { runTraining } = await import('../engine/trainCommand.ts');
    process.exitCode = await runTraining(flags, line);
  });
}

/** Flags that mean something for a table. */
const TABLE_FLAGS = [
  'dataset',
  'config',
  'output',
  'fineTune',
  'modelPath',
  'epochs',
  'batchSize',
  'learningRate',
  'weightDecay',
  'validation',
  'validationSplit',
  'earlyStopping',
  'threads',
  'seed',
];

function checkTableFlags(flags: TrainFlags & TableFlags, line: CommandLine): void {
  for (const flag of ['dataset', 'config', 'output'] as const) {
    if (flags[flag] === undefined) line.usage(`--${flag} is needed to train on a table (see tuneloop train --help)`);
  }
  for (const name of Object.keys(flags)) {
    if (line.given(name) && !TABLE_FLAGS.includes(name)) {
      line.usage(`--${snakeCase(name, '-')} is for language models, not for tables: leave it out`);
    }
  }
  if (flags.fineTune && flags.modelPath === undefined)
    line.usage('--fine-tune needs --model-path, the classifier to go on from');
  if (!flags.fineTune && flags.modelPath !== undefined)
    line.usage('--model-path is the classifier to go on from: add --fine-tune');
}
