/**
 * Named places at which a test may kill, fail or hold the process: `outbox.after_publish`, `inbox.before_commit`, …
 * Outside tests nothing is armed and `hit` is one map look-up.
 *
 * `TUNELOOP_FAULTS="inbox.before_commit:kill@3,outbox.after_publish:kill@1"` arms a process from its environment:
 * the third, first, … passage sends SIGKILL to the process itself, which no handler can soften.
 */
export type FaultAction = 'kill' | 'throw';

interface Armed {
  readonly action: FaultAction;
  remaining: number;
}

export class FaultPoints {
  readonly #armed = new Map<string, Armed>();

  static parse(text: string | undefined): FaultPoints {
    const faults = new FaultPoints();
    for (const part of (text ?? '').split(',')) {
      const match = /^([\w.]+):(kill|throw)@(\d+)$/.exec(part.trim());
      if (match) faults.arm(match[1]!, match[2] as FaultAction, Number(match[3]));
    }
    return faults;
  }

  /** The `nth` passage from now fires; later ones pass. */
  arm(point: string, action: FaultAction, nth = 1): void {
    this.#armed.set(point, { action, remaining: nth });
  }

  hit(point: string): void {
    const armed = this.#armed.get(point);
    if (!armed || --armed.remaining > 0) return;
    this.#armed.delete(point);
    if (armed.action === 'throw') throw new Error(`fault point ${point}`);
    process.kill(process.pid, 'SIGKILL');
  }
}
