import { availableParallelism } from 'node:os';
import { Command, Option } from 'commander';
import type { GenerateFlags } from '../engine/generateCommand.ts';
import { commandLine, decimal, existingFile, existingFolder, usageExits } from './engineFlags.ts';
import { integer } from './flags.ts';

const MAX_COUNT = 1_000_000;
const MAX_SAMPLES = 128;
const MAX_SEED = 2 ** 31 - 1;
const MAX_THREADS = 1_024;

const EXAMPLES = `
Examples:
  $ tuneloop generate --model nano --prompt "Item: chair
  Colour: red"
  $ tuneloop generate --adapter out/adapter --prompt "Describe the chair." --n 4 --temperature 0.7
  $ tuneloop generate --model models/SmolLM2-135M-Instruct --adapter out/dpo --chat questions.jsonl > answers.jsonl
  $ echo "Once upon a time" | tuneloop generate --model models/base --plain-text --max-tokens 200

One prompt gives its answer as text (samples parted by a line of ---); --json and files of several
conversations give JSON Lines.`;

function collect(text: string, before: readonly string[]): readonly string[] {
  return [...before, text];
}

/** `tuneloop generate`: samples a model on this machine. */
export function generateCommand(): Command {
  const command = new Command('generate')
    .description('Answers a prompt, or every conversation of a file, with a model and an adapter.')
    .option(
      '--base-model, --model <model>',
      'a folder, a .gguf file, a hub id, or nano (default: the base that the adapter names)',
    )
    .addOption(new Option('--adapter <dir>', 'a PEFT adapter').argParser(existingFolder))
    .option('--prompt <text>', 'what is asked (default: standard input)')
    .option('--system <text>', 'instructions before the prompt')
    .addOption(
      new Option('--chat <file>', 'JSON Lines of {"messages": […]} to answer')
        .argParser(existingFile)
        .conflicts('prompt'),
    )
    .option('--plain-text', 'go on with the prompt as it is, without the chat template')
    .option('--load-in-4bit', 'hold the base in 4 bits: less memory, faster decoding', false)
    .addOption(new Option('--temperature <x>', '0: the likeliest token').argParser(decimal({ max: 100 })).default(1))
    .addOption(new Option('--top-p <x>', 'nucleus').argParser(decimal({ above: 0, max: 1 })).default(1))
    .addOption(new Option('--top-k <n>', '0: all').argParser(integer(0, MAX_COUNT)).default(0))
    .addOption(new Option('--min-p <x>', 'share of the likeliest').argParser(decimal({ max: 1 })).default(0))
    .addOption(new Option('--repetition-penalty <x>').argParser(decimal({ above: 0, max: 100 })).default(1))
    .addOption(new Option('--max-tokens <n>', 'longest answer').argParser(integer(1, MAX_COUNT)).default(256))
    .addOption(new Option('--random-seed, --seed <n>', 'same seed, same answer').argParser(integer(0, MAX_SEED)))
    .addOption(new Option('--stop <text>', 'ends an answer; may be given again').argParser(collect).default([], 'none'))
    .addOption(new Option('--n <n>', 'answers to each prompt').argParser(integer(1, MAX_SAMPLES)).default(1))
    .addOption(new Option('--json-schema <file>', 'hold answers to a JSON Schema').argParser(existingFile))
    .option('--json', 'one JSON object an answer', false)
    .option('--stream', 'write tokens as they come (default on a terminal)')
    .option('--no-stream', 'write the answer when it is whole')
    .addOption(
      new Option('--threads <n>', 'CPU threads').argParser(integer(1, MAX_THREADS)).default(availableParallelism()),
    )
    .addHelpText('after', EXAMPLES);
  usageExits(command);
  return command.action(async (flags: GenerateFlags) => {
    const { runGenerate } = await import('../engine/generateCommand.ts');
    await runGenerate(flags, commandLine(command));
  });
}
