import { once } from 'node:events';
import { createServer } from 'node:net';

/** The gateway cannot listen where it was told to; the message says what to do. */
export class DoorError extends Error {
  override readonly name = 'DoorError';
}

/**
 * Makes sure, before anything is started, that the gateway will be able to listen.
 * @throws DoorError that says which flag to change
 */
export async function assertListenable(host: string, port: number): Promise<void> {
  const probe = createServer();
  try {
    probe.listen(port, host);
    await once(probe, 'listening');
  } catch (error) {
    throw new DoorError(reason(error, host, port), { cause: error });
  } finally {
    probe.close();
  }
}

function reason(error: unknown, host: string, port: number): string {
  const code = error instanceof Error && 'code' in error ? error.code : '';
  if (code === 'EADDRINUSE')
    return `port ${port} is in use. Stop what listens there, or give another: --port ${port + 1}.`;
  if (code === 'EACCES') return `port ${port} may not be used by this user. Give one from 1024 on with --port.`;
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') return `${host} is no address of this machine (--host).`;
  return `cannot listen on ${host}:${port} (--host, --port).`;
}
