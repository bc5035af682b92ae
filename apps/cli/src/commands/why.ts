import { ApiError, Client } from '@tuneloop/client/client';
import { whyRun } from '@tuneloop/contracts/gateway/http';
import { listRetrainingRuns } from '@tuneloop/contracts/scheduler/http';
import { Command } from 'commander';
import { connectionOptions, resolveConnection, type ConnectionFlags } from './connection.ts';

/** Somebody waits at the terminal. */
const ATTEMPTS = 3;

/** `tuneloop why [run]`: one turn of the loop as one timeline. */
export function whyCommand(): Command {
  const command = new Command('why')
    .description('Tells the story of one retraining run: what each service did, in order.')
    .argument('[run]', 'run id; the newest when left out');
  return connectionOptions(command).action(async (run: string | undefined, flags: ConnectionFlags) => {
    const connection = resolveConnection(flags);
    const client = new Client({ ...connection, attempts: ATTEMPTS });
    try {
      const id = run ?? (await client.call(listRetrainingRuns, { query: { limit: 1 } })).data[0]?.id;
      if (id === undefined) {
        console.log('No run yet. Ask for one: POST /api/v1/retraining-requests {"reason": "…"}');
        return;
      }
      const { entries } = await client.call(whyRun, { params: { id } });
      console.log(`run ${id}`);
      const first = entries[0] ? Date.parse(entries[0].at) : 0;
      for (const entry of entries) {
        const seconds = ((Date.parse(entry.at) - first) / 1000).toFixed(1).padStart(7);
        console.log(
          `${seconds} s  ${entry.service.padEnd(10)} ${entry.what.padEnd(22)} ${summarise(entry.detail ?? {})}`,
        );
      }
    } catch (error) {
      console.error(
        error instanceof ApiError ? error.message : `${connection.baseUrl} does not answer. Is Tuneloop running there?`,
      );
      process.exitCode = 1;
    }
  });
}

const SHOWN = [
  'reason',
  'decision',
  'examples',
  'step',
  'total_steps',
  'loss',
  'method',
  'slot',
  'steps',
  'first_loss',
  'last_loss',
];

/** The few fields of an event that tell the story. */
function summarise(detail: Readonly<Record<string, unknown>>): string {
  return SHOWN.filter((key) => detail[key] !== undefined && detail[key] !== null)
    .map((key) => {
      const value = detail[key];
      return `${key}=${typeof value === 'number' && !Number.isInteger(value) ? value.toFixed(3) : String(value)}`;
    })
    .join(' ');
}
