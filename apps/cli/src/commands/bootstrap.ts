import { createHash, randomUUID } from 'node:crypto';
import { bootstrapProject } from '@tuneloop/contracts/gateway/internal';
import { createCallers } from '@tuneloop/runtime/callers';
import { parseConfig } from '@tuneloop/runtime/config';
import { AppError, describeError } from '@tuneloop/runtime/errors';
import { createLog } from '@tuneloop/runtime/log';
import { readSecretFiles } from '@tuneloop/runtime/secretFiles';
import { Command } from 'commander';
import { z } from 'zod';

const bootstrapConfig = z.object({
  TUNELOOP_SECRET: z.string().min(32, 'must be the secret that the services run with'),
  TUNELOOP_URL: z.url().default('http://127.0.0.1:8080'),
});

interface BootstrapFlags {
  readonly slug: string;
  readonly name?: string;
  readonly project?: string;
  readonly url?: string;
}

/** `tuneloop bootstrap`: how an operator comes to a first key, with nothing but the installation's secret. */
export function bootstrapCommand(): Command {
  return new Command('bootstrap')
    .description('Creates a project, or finds it, and prints a new owner key for it: the key alone on standard output.')
    .requiredOption('--slug <slug>', 'short name of the project: small letters, digits, hyphens')
    .option('--name <name>', 'its name for people (default: the slug)')
    .option('--project <id>', 'its id, for a project that was not made by this command')
    .option('--url <url>', 'the gateway inside the network (default: TUNELOOP_URL, else http://127.0.0.1:8080)')
    .action(bootstrap);
}

async function bootstrap(flags: BootstrapFlags): Promise<void> {
  try {
    const given = flags.url === undefined ? {} : { TUNELOOP_URL: flags.url };
    const config = parseConfig(bootstrapConfig, { ...readSecretFiles(process.env), ...given });
    const callers = createCallers({
      urls: { gateway: config.TUNELOOP_URL },
      service: 'cli',
      serviceSecret: config.TUNELOOP_SECRET,
      log: createLog({ level: 'silent' }),
    });
    try {
      const projectId = flags.project ?? projectIdOf(flags.slug);
      const { slug, name = slug } = flags;
      const answer = await callers.call(
        bootstrapProject,
        { body: { project_id: projectId, slug, name, make_key: true, key_name: 'bootstrap' } },
        { projectId, idempotencyKey: randomUUID() },
      );
      const what = answer.created ? 'created' : 'was there already; this is a further key';
      console.error(`Project "${slug}" (${projectId}) ${what}. The owner key is shown this once:`);
      console.log(answer.api_key);
    } finally {
      await callers.close();
    }
  } catch (error) {
    console.error(describeError(error));
    if (error instanceof AppError && error.code === 'gateway.project.slug_taken') {
      console.error('For a further key to that project give its id: --project <id>');
    }
    process.exitCode = 1;
  }
}

/** One id for one slug, so that a repeated bootstrap finds its project: a UUID of version 8 (RFC 9562) from a hash. */
function projectIdOf(slug: string): string {
  const bytes = createHash('sha256').update(`tuneloop/project/${slug}`).digest().subarray(0, 16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x80;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = bytes.toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}
