import { Command } from 'commander';
import { bootstrapCommand } from './commands/bootstrap.ts';
import { migrateCommand } from './commands/migrate.ts';
import { natsAccountsCommand } from './commands/natsAccounts.ts';
import { mcpCommand } from './commands/mcp.ts';
import { startCommand } from './commands/start.ts';
import { upCommand } from './commands/up.ts';
import { whyCommand } from './commands/why.ts';

const program = new Command('tuneloop')
  .description('Closes the loop from what a model says to a better model.')
  .showHelpAfterError()
  .addCommand(startCommand())
  .addCommand(upCommand())
  .addCommand(migrateCommand())
  .addCommand(bootstrapCommand())
  .addCommand(natsAccountsCommand())
  .addCommand(whyCommand())
  .addCommand(mcpCommand());

await program.parseAsync();
