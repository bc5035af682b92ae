import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isAlive, waitUntil } from '@tuneloop/local/processes';
import type { Stack } from './stack.ts';

const RESTART_TIMEOUT_MS = 60_000;
const FAULT_TIMEOUT_MS = 20_000;

/** Where a process can die around the three commits that matter: database, stream, acknowledgement. */
export const BOUNDARIES = [
  'pg.before_commit',
  'pg.after_commit',
  'outbox.before_publish',
  'outbox.after_publish',
  'inbox.before_commit',
  'inbox.before_ack',
  'inbox.after_ack',
] as const;

/** A small seeded generator (mulberry32): the same seed makes the same run of deaths. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Kills processes of a running stack, and arms services so that they kill themselves at a named boundary. */
export class Chaos {
  readonly #stack: Stack;
  readonly #faultsDir: string;
  /** Deaths so far, as `service` or `service@boundary`. */
  readonly deaths: string[] = [];

  constructor(stack: Stack, faultsDir: string) {
    this.#stack = stack;
    this.#faultsDir = faultsDir;
    mkdirSync(faultsDir, { recursive: true });
  }

  /** SIGKILL from outside; resolves once the supervisor has brought the process up again. */
  async kill(service: string): Promise<void> {
    const pid = await this.#alive(service);
    process.kill(pid, 'SIGKILL');
    this.deaths.push(service);
    await this.#newPid(service, pid, RESTART_TIMEOUT_MS);
  }

  /** SIGKILL for a process whose pid is not followed (Postgres, nats-server): its supervisor restarts it. */
  async killServer(name: 'postgres' | 'nats'): Promise<void> {
    const { pid } = this.#stack.pids()[name]!;
    process.kill(pid, 'SIGKILL');
    this.deaths.push(name);
    await waitUntil(() => !isAlive(pid), RESTART_TIMEOUT_MS);
  }

  /**
   * Restarts the service armed with a boundary, and waits for it to die there by its own hand. False when no work
   * came that way in time; the service then goes on unarmed at its next start.
   */
  async killAt(service: string, boundary: string, nth: number): Promise<boolean> {
    const file = join(this.#faultsDir, service);
    writeFileSync(file, `${boundary}:kill@${nth}`);
    await this.kill(service);
    rmSync(file, { force: true });
    const armed = await this.#alive(service);
    const died = await this.#newPid(service, armed, FAULT_TIMEOUT_MS, false);
    if (died) this.deaths.push(`${service}@${boundary}`);
    return died;
  }

  /** The process that runs now; one that is just being restarted is waited for. */
  async #alive(service: string): Promise<number> {
    const current = (): number | undefined => this.#stack.pids()[service]?.pid;
    const up = await waitUntil(() => {
      const pid = current();
      return pid !== undefined && isAlive(pid);
    }, RESTART_TIMEOUT_MS);
    if (!up) throw new Error(`${service} did not come up again`);
    return current()!;
  }

  async #newPid(service: string, old: number, timeoutMs: number, must = true): Promise<boolean> {
    const replaced = await waitUntil(() => {
      const current = this.#stack.pids()[service]?.pid;
      return current !== undefined && current !== old && isAlive(current);
    }, timeoutMs);
    if (!replaced && must) throw new Error(`${service} did not come up again`);
    return replaced;
  }
}
