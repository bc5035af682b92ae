import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { eventNameOfSubject, openExerciseLog } from '../libs/runtime/src/exerciseLog.ts';
import { loadContracts, readExercised, unexercised } from './contractCoverage.ts';

const directory = mkdtempSync(join(tmpdir(), 'tuneloop-exercised-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const contracts = {
  routes: new Map([
    ['create_thing', 'POST /api/v1/things of rewards'],
    ['list_things', 'GET /api/v1/things of rewards'],
  ]),
  events: ['thing.created.v1', 'thing.deleted.v1'],
};

describe('contract coverage', () => {
  it('names each route, event and consumer that no process exercised', () => {
    const note = openExerciseLog(directory);
    note('route', 'create_thing');
    note('published', eventNameOfSubject('tl.0190f5a2-7b3c-7def-8123-456789abcdef.thing.created.v1'));
    note('consumer', 'datasets__on_thing_created');
    note('consumer', 'datasets__on_thing_deleted');
    note('handled', 'datasets__on_thing_created');
    writeFileSync(join(directory, 'another-process.txt'), 'published thing.deleted.v1\n');

    expect(unexercised(contracts, readExercised(directory))).toEqual([
      'no test gave the consumer datasets__on_thing_deleted an event that it handled',
      'no test had a success from GET /api/v1/things of rewards (list_things)',
    ]);
  });

  it('asks for every contract there is, the ones that all services share included', async () => {
    const missing = unexercised(await loadContracts(), new Set());
    expect(missing).toContain('no test had a success from POST /api/v1/feedback of rewards (create_feedback)');
    expect(missing.some((line) => line.includes('(scheduler_timeline)'))).toBe(true);
    expect(missing).toContain('no test made a service publish response.created.v1');
  });

  it('keeps nothing outside a test run', () => {
    expect(() => openExerciseLog(undefined)('route', 'create_thing')).not.toThrow();
  });
});
