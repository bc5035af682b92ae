import { Button, Loader, VisuallyHidden } from '@mantine/core';
import { useDisclosure } from '@mantine/hooks';
import { useEffect, useState } from 'react';
import { Notice } from '../Notice.tsx';
import { GuidelineDialog } from './GuidelineDialog.tsx';
import { Question } from './Question.tsx';
import classes from './review.module.css';
import { SettingsDialog } from './SettingsDialog.tsx';
import { TopBar } from './TopBar.tsx';
import { type Review, useReview } from './useReview.ts';
import { type Action, useShortcuts, useShortcutsEnabled } from './useShortcuts.ts';
import { sayDone } from './words.ts';

/** Long enough that a key pressed twice does not answer a question nobody has seen. */
const SETTLING_MS = 250;

export function ReviewSitting({ accessKey }: { accessKey: string }) {
  const review = useReview(accessKey);
  const [shortcuts, setShortcuts] = useShortcutsEnabled();
  const [guidelineOpen, guideline] = useDisclosure();
  const [settingsOpen, settings] = useDisclosure();
  const ready = useReady(review);
  useEffect(() => {
    document.title = 'Which is better? · Tuneloop';
  }, []);

  const act = (action: Action): void => {
    if (action === 'undo') review.undo();
    else if (action === 'skip') review.skip();
    else if (ready) review.judge(action);
  };
  useShortcuts(shortcuts && !guidelineOpen && !settingsOpen, act);

  return (
    <div className={classes.page}>
      <TopBar review={review} onGuideline={guideline.open} onSettings={settings.open} />
      <Body review={review} ready={ready} shortcuts={shortcuts} onAction={act} />
      <VisuallyHidden role="status">{review.last ? `${sayDone(review.last)}. Next question.` : ''}</VisuallyHidden>
      <GuidelineDialog opened={guidelineOpen} onClose={guideline.close} text={review.item?.guideline} />
      <SettingsDialog
        opened={settingsOpen}
        onClose={settings.close}
        shortcuts={shortcuts}
        onShortcuts={setShortcuts}
        unsent={review.outbox.pending.length}
      />
    </div>
  );
}

interface BodyProps {
  readonly review: Review;
  readonly ready: boolean;
  readonly shortcuts: boolean;
  readonly onAction: (action: Action) => void;
}

function Body({ review, ready, shortcuts, onAction }: BodyProps) {
  const { item, error, offline } = review;
  if (item) {
    return (
      <Question
        key={item.id}
        item={item}
        picture={review.picture}
        ready={ready}
        shortcuts={shortcuts}
        canUndo={review.last !== undefined}
        onAction={onAction}
      />
    );
  }
  if (item === null) return <AllDone review={review} />;
  if (offline) {
    return (
      <Notice title="You are offline">
        Your answers are kept on this device. The next question comes as soon as you are back.
      </Notice>
    );
  }
  if (error) {
    return (
      <Notice title="The next question did not load" action={<Button onClick={review.retry}>Try again</Button>}>
        The server cannot be reached, or something is wrong there. Nothing you answered is lost.
      </Notice>
    );
  }
  return (
    <main className={classes.waiting} aria-busy="true">
      <Loader size="sm" aria-label="Loading the next question" />
    </main>
  );
}

function AllDone({ review }: { review: Review }) {
  const { judged, last, undo } = review;
  return (
    <Notice
      title={judged > 0 ? 'That was the last one' : 'Nothing to compare yet'}
      action={
        last ? (
          <Button variant="default" onClick={undo}>
            Undo the last answer
          </Button>
        ) : undefined
      }
    >
      {judged > 0 ? `Thank you. You compared ${judged === 1 ? 'one pair' : `${judged} pairs`} of answers. ` : ''}
      New questions appear here by themselves; you can leave this page open.
    </Notice>
  );
}

/** Answers are taken once the picture is there (or cannot be had) and the question has been seen for a moment. */
function useReady({ item, position, picture }: Review): boolean {
  const [settled, setSettled] = useState<number>();
  useEffect(() => {
    if (!item) return undefined;
    const timer = setTimeout(() => setSettled(position), SETTLING_MS);
    return () => clearTimeout(timer);
  }, [item, position]);
  return settled === position && picture.state !== 'loading';
}
