import type { Deed } from './outbox.ts';
import type { Action } from './useShortcuts.ts';

/** What is said and how it is pressed; everything the page says about answers is here. */
export const WORDS: Readonly<Record<Action, { readonly label: string; readonly keys: readonly string[] }>> = {
  a: { label: 'A is better', keys: ['←'] },
  b: { label: 'B is better', keys: ['→'] },
  tie: { label: 'Both fine', keys: ['↓', 'S'] },
  both_bad: { label: 'Both bad', keys: ['X'] },
  cant_tell: { label: "Can't tell", keys: ['?'] },
  skip: { label: 'Skip', keys: ['Space'] },
  undo: { label: 'Undo', keys: ['U'] },
};

export function sayDone(deed: Exclude<Deed, { kind: 'undo' }>): string {
  return deed.kind === 'skip' ? 'Skipped' : WORDS[deed.body.value].label;
}
