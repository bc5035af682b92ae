import { LOG_LEVELS } from '@tuneloop/runtime/log';
import { Command, Option } from 'commander';
import type { StartFlags } from '../start/run.ts';
import { dataFolder, hostAddress, integer, outputFile, tasteName } from './flags.ts';

const DEFAULT_PORT = 8080;

/** `tuneloop start`: the whole product on this machine. The services are loaded only when the flags are right. */
export function startCommand(): Command {
  return new Command('start')
    .description(
      'Boots Postgres, NATS, every service and the model server; on an empty database runs one turn of the loop.',
    )
    .addOption(
      new Option('--port <port>', 'where the gateway listens').argParser(integer(0, 65_535)).default(DEFAULT_PORT),
    )
    .addOption(
      new Option('--host <address>', 'where the gateway listens; 0.0.0.0 for every address')
        .argParser(hostAddress)
        .default('127.0.0.1'),
    )
    .addOption(new Option('--data <dir>', 'data directory (default: .tuneloop here)').argParser(dataFolder))
    .addOption(new Option('--empty', 'no sample data, no turn').default(false).conflicts('once'))
    .option('--once', 'run one turn and exit: 0 promoted, 3 kept by the gate, 1 broken', false)
    .addOption(new Option('--report <file>', 'write the turn as JSON').argParser(outputFile))
    .addOption(
      new Option('--seed <n>', 'of the sample pictures, the reviewer and the training')
        .argParser(integer(0, 2 ** 31 - 1))
        .default(1),
    )
    .addOption(
      new Option('--taste <name>', 'of the scripted reviewer: accurate, vivid, plain, or not-<name>')
        .argParser(tasteName)
        .default('accurate'),
    )
    .addOption(
      new Option('--labels <kind>', 'shuffled: ratings are dealt out at random, as a null control')
        .choices(['true', 'shuffled'])
        .default('true'),
    )
    .option('--processes', 'every service as a process of its own', false)
    .addOption(new Option('--log-level <level>', 'of the log files').choices([...LOG_LEVELS]).default('info'))
    .action(async (flags: StartFlags) => (await import('../start/run.ts')).start(flags));
}
