import { ActionIcon, Button } from '@mantine/core';
import { Wordmark } from '../Wordmark.tsx';
import classes from './review.module.css';
import type { Review } from './useReview.ts';

/** Counting further would tell nobody anything. */
const MANY = 1_000;

interface TopBarProps {
  readonly review: Review;
  readonly onGuideline: () => void;
  readonly onSettings: () => void;
}

export function TopBar({ review, onGuideline, onSettings }: TopBarProps) {
  const { item, judged } = review;
  const left = item?.remaining ?? 0;
  return (
    <header className={classes.top}>
      <div className={classes.bar}>
        <Wordmark />
        <p className={classes.progress}>
          <Unsent review={review} />
          {item ? (
            <span>
              {judged > 0 ? <span className={classes.count}>{`${judged} done · `}</span> : null}
              <span className={classes.count}>{left > MANY ? `more than ${MANY}` : left} left</span>
            </span>
          ) : null}
        </p>
        <div className={classes.tools}>
          {item ? (
            <Button variant="subtle" size="compact-md" className={classes.tool} onClick={onGuideline}>
              What to look for
            </Button>
          ) : null}
          <ActionIcon
            variant="subtle"
            size="lg"
            className={classes.tool}
            onClick={onSettings}
            aria-label="Settings and keys"
          >
            <svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true" fill="none" stroke="currentColor">
              <g strokeWidth="1.75" strokeLinecap="round">
                <path d="M4 7h9M17 7h3M4 17h3M11 17h9" />
                <circle cx="15" cy="7" r="2" />
                <circle cx="9" cy="17" r="2" />
              </g>
            </svg>
          </ActionIcon>
        </div>
      </div>
      <div
        className={classes.track}
        role="progressbar"
        aria-label="Questions answered"
        aria-valuemin={0}
        aria-valuemax={judged + left}
        aria-valuenow={judged}
      >
        <div className={classes.filled} style={{ width: `${item === undefined ? 0 : share(judged, left)}%` }} />
      </div>
    </header>
  );
}

function share(done: number, left: number): number {
  return done + left === 0 ? 0 : (100 * done) / (done + left);
}

/** What the reviewer should know of answers on their way; nothing while all is well. */
function Unsent({ review }: { review: Review }) {
  const { status, pending, dropped } = review.outbox;
  if (status === 'waiting' && pending.length > 0) {
    const count = pending.length === 1 ? 'One answer is' : `${pending.length} answers are`;
    return (
      <span className={classes.warning} role="status">
        {count} kept on this device until the server is back
      </span>
    );
  }
  if (dropped > 0) {
    const count = dropped === 1 ? 'One answer was' : `${dropped} answers were`;
    return (
      <span className={classes.warning} role="status">
        {count} about a text that has been removed
      </span>
    );
  }
  return null;
}
