import { useLocalStorage } from '@mantine/hooks';
import { useEffect, useEffectEvent } from 'react';
import type { Verdict } from '../api/review.ts';

export type Action = Verdict | 'skip' | 'undo';

const ACTION_OF: Readonly<Record<string, Action>> = {
  arrowleft: 'a',
  arrowright: 'b',
  arrowdown: 'tie',
  s: 'tie',
  x: 'both_bad',
  '?': 'cant_tell',
  u: 'undo',
  ' ': 'skip',
};

/** Whether keys answer; whoever dictates or uses keys otherwise can turn it off. */
export function useShortcutsEnabled() {
  return useLocalStorage({ key: 'tuneloop.shortcuts', defaultValue: true, getInitialValueInEffect: false });
}

/** Keys that answer, from anywhere on the page but a dialog or a field. */
export function useShortcuts(enabled: boolean, act: (action: Action) => void): void {
  const pressed = useEffectEvent((event: KeyboardEvent) => {
    const action = ACTION_OF[event.key.toLowerCase()];
    if (action === undefined || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target instanceof Element ? event.target : null;
    if (target?.closest('input, textarea, select, [contenteditable], [role="dialog"]')) return;
    // On a button the space bar presses the button.
    if (event.key === ' ' && target?.closest('button, a[href], summary')) return;
    event.preventDefault();
    act(action);
  });
  useEffect(() => {
    if (!enabled) return undefined;
    const listen = (event: KeyboardEvent): void => pressed(event);
    window.addEventListener('keydown', listen);
    return () => window.removeEventListener('keydown', listen);
  }, [enabled]);
}
