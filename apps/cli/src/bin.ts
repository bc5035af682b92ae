import { Command } from 'commander';

/** Each loads its own code: a small command does not wait for the services to load. */
const COMMANDS = new Map<string, () => Promise<Command>>(
  Object.entries({
    start: async () => (await import('./commands/start.ts')).startCommand(),
    up: async () => (await import('./commands/up.ts')).upCommand(),
    migrate: async () => (await import('./commands/migrate.ts')).migrateCommand(),
    bootstrap: async () => (await import('./commands/bootstrap.ts')).bootstrapCommand(),
    'nats-accounts': async () => (await import('./commands/natsAccounts.ts')).natsAccountsCommand(),
    train: async () => (await import('./commands/train.ts')).trainCommand(),
    generate: async () => (await import('./commands/generate.ts')).generateCommand(),
    merge: async () => (await import('./commands/merge.ts')).mergeCommand(),
    export: async () => (await import('./commands/export.ts')).exportCommand(),
    why: async () => (await import('./commands/why.ts')).whyCommand(),
    mcp: async () => (await import('./commands/mcp.ts')).mcpCommand(),
  }),
);

const program = new Command('tuneloop')
  .description('Closes the loop from what a model says to a better model.')
  .showHelpAfterError();
// Help and mistakes show all of them.
const named = COMMANDS.get(process.argv[2] ?? '');
for (const load of named ? [named] : COMMANDS.values()) program.addCommand(await load());

try {
  await program.parseAsync();
} catch (error) {
  // What a command throws is meant for whoever typed it.
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
