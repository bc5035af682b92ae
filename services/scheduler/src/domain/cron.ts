import { Cron } from 'croner';

/** Checks expression and zone. Returns what is wrong, naming the field, or null. */
export function cronProblem(cron: string, timeZone: string): { field: 'cron' | 'time_zone'; message: string } | null {
  try {
    Intl.DateTimeFormat('en', { timeZone });
  } catch {
    return { field: 'time_zone', message: `"${timeZone}" is not an IANA time zone such as Europe/Berlin` };
  }
  try {
    if (new Cron(cron, { timezone: timeZone, paused: true }).nextRun(new Date()) === null) {
      return { field: 'cron', message: `"${cron}" never fires` };
    }
    return null;
  } catch (error) {
    return {
      field: 'cron',
      message: `"${cron}" is not a cron expression: ${error instanceof Error ? error.message : ''}`,
    };
  }
}

/** First tick strictly after `after`. A tick that a clock change skips fires once at the shifted time. */
export function nextTick(cron: string, timeZone: string, after: Date): Date | null {
  return new Cron(cron, { timezone: timeZone, paused: true }).nextRun(after);
}
