import { appendFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * What a line says: a route answered with success, an event reached its stream, a consumer was started, a consumer
 * committed what an event of its asked for.
 */
export type ExerciseKind = 'route' | 'published' | 'consumer' | 'handled';

export type NoteExercise = (kind: ExerciseKind, name: string) => void;

/**
 * Notes once each what this process does with the contracts, in a file of its own under `directory`: a test run gathers
 * the files of all its processes and fails for a contract that none of them exercised. Written at once, so that a
 * process killed by a test leaves what it did. Without a directory nothing is kept.
 */
export function openExerciseLog(directory: string | undefined): NoteExercise {
  if (directory === undefined) return () => undefined;
  const file = join(directory, `${process.pid}.txt`);
  const noted = new Set<string>();
  return (kind, name) => {
    const line = `${kind} ${name}\n`;
    if (noted.has(line)) return;
    noted.add(line);
    appendFileSync(file, line);
  };
}

/** `response.created.v1` of a subject `tl.<project>.response.created.v1`. */
export function eventNameOfSubject(subject: string): string {
  return subject.split('.').slice(2).join('.');
}
