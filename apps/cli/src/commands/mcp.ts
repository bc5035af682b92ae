import { serveStdio } from '@modelcontextprotocol/server/stdio';
import { Client } from '@tuneloop/client/client';
import { createMcpServer } from '@tuneloop/gateway/mcp/server';
import { Command, Option } from 'commander';
import packageJson from '../../package.json' with { type: 'json' };
import { type ConnectionFlags, connectionOptions, resolveConnection } from './connection.ts';
import { existingFolders } from './flags.ts';

interface McpFlags extends ConnectionFlags {
  readonly root: readonly string[];
}

/** `tuneloop mcp`: the MCP server over stdio. Files may be read below the roots that are declared. */
export function mcpCommand(): Command {
  const command = new Command('mcp')
    .description('Serves the MCP tools over stdio, for agents on this machine.')
    .addOption(
      new Option('--root <dir>', 'a folder whose pictures may be uploaded by path; may be given more than once')
        .argParser(existingFolders)
        .default([]),
    );
  return connectionOptions(command).action((flags: McpFlags) => {
    const client = new Client(resolveConnection(flags));
    const handle = serveStdio(() => createMcpServer({ client, version: packageJson.version, roots: flags.root }));
    process.once('SIGINT', () => void handle.close());
    process.once('SIGTERM', () => void handle.close());
  });
}
