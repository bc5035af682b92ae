import { Command } from 'commander';
import { startCommand } from './commands/start.ts';
import { whyCommand } from './commands/why.ts';

const program = new Command('tuneloop')
  .description('Closes the loop from what a model says to a better model.')
  .showHelpAfterError()
  .addCommand(startCommand())
  .addCommand(whyCommand());

await program.parseAsync();
