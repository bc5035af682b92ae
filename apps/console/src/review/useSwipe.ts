import { type PointerEvent, type MouseEvent, useRef, useState } from 'react';

export type Side = 'a' | 'b';

/** A drag is a swipe once it has gone this far, mostly sideways, in CSS pixels. */
const RECOGNISED_PX = 12;
const DECIDED_PX = 84;
const SIDEWAYS = 1.3;

interface Drag {
  readonly pointerId: number;
  readonly x: number;
  readonly y: number;
  recognised: boolean;
}

/**
 * Swiping with a finger: to the left for A, to the right for B. The element follows the finger by its CSS variable
 * `--swipe`; it must have `touch-action: pan-y`, so that sideways moves come here and the page still scrolls.
 */
export function useSwipe(onSwipe: (side: Side) => void) {
  const drag = useRef<Drag | null>(null);
  const swallowClick = useRef(false);
  /** What letting go now would choose. */
  const [side, setSide] = useState<Side | null>(null);

  const finish = (event: PointerEvent<HTMLElement>, chosen: Side | null): void => {
    if (drag.current?.pointerId !== event.pointerId) return;
    drag.current = null;
    setSide(null);
    event.currentTarget.style.removeProperty('--swipe');
    if (chosen) onSwipe(chosen);
  };

  return {
    side,
    handlers: {
      onPointerDown: (event: PointerEvent<HTMLElement>) => {
        swallowClick.current = false;
        if (event.pointerType === 'mouse' || !event.isPrimary) return;
        drag.current = { pointerId: event.pointerId, x: event.clientX, y: event.clientY, recognised: false };
      },
      onPointerMove: (event: PointerEvent<HTMLElement>) => {
        const now = drag.current;
        if (now?.pointerId !== event.pointerId) return;
        const dx = event.clientX - now.x;
        const dy = event.clientY - now.y;
        if (!now.recognised) {
          if (Math.abs(dx) < RECOGNISED_PX || Math.abs(dx) < Math.abs(dy) * SIDEWAYS) return;
          now.recognised = true;
          swallowClick.current = true;
          event.currentTarget.setPointerCapture(event.pointerId);
        }
        event.currentTarget.style.setProperty('--swipe', `${dx}px`);
        setSide(sideOf(dx));
      },
      onPointerUp: (event: PointerEvent<HTMLElement>) => {
        const now = drag.current;
        finish(event, now?.recognised ? sideOf(event.clientX - now.x) : null);
        // The click that belongs to this swipe comes before the next frame, if at all.
        requestAnimationFrame(() => {
          swallowClick.current = false;
        });
      },
      onPointerCancel: (event: PointerEvent<HTMLElement>) => finish(event, null),
      // The button under the finger was not meant.
      onClickCapture: (event: MouseEvent) => {
        if (!swallowClick.current) return;
        swallowClick.current = false;
        event.stopPropagation();
        event.preventDefault();
      },
    },
  };
}

function sideOf(dx: number): Side | null {
  if (Math.abs(dx) < DECIDED_PX) return null;
  return dx < 0 ? 'a' : 'b';
}
