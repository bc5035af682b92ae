import type { ReviewItem } from '@tuneloop/contracts/rewards/review';
import { Button, Kbd, Loader, Title, UnstyledButton, VisuallyHidden } from '@mantine/core';
import { useEffect, useRef } from 'react';
import { readPrompt } from './promptText.ts';
import classes from './review.module.css';
import type { Picture } from './usePicture.ts';
import type { Action } from './useShortcuts.ts';
import { type Side, useSwipe } from './useSwipe.ts';
import { WORDS } from './words.ts';

interface QuestionProps {
  readonly item: ReviewItem;
  readonly picture: Picture;
  readonly ready: boolean;
  readonly shortcuts: boolean;
  readonly canUndo: boolean;
  readonly onAction: (action: Action) => void;
}

export function Question({ item, picture, ready, shortcuts, canUndo, onAction }: QuestionProps) {
  const heading = useRef<HTMLHeadingElement>(null);
  const swipe = useSwipe(onAction);
  // A new question is a new place: whoever listens hears it, and no key lands on a button of the last one.
  useEffect(() => {
    window.scrollTo(0, 0);
    heading.current?.focus({ preventScroll: true });
  }, []);
  const [a, b] = item.answers;
  return (
    <main className={classes.question} aria-busy={!ready} data-item={item.id}>
      <div className={classes.stage} {...swipe.handlers} data-leaning={swipe.side ?? undefined}>
        <PictureFrame picture={picture} category={item.category} />
        <div className={classes.asked}>
          <Title order={1} ref={heading} tabIndex={-1} className={classes.heading}>
            Which answer is better?
          </Title>
          <Prompt prompt={item.prompt} />
        </div>
        <div className={classes.answers}>
          <Answer side="a" text={a.text} leaning={swipe.side === 'a'} shortcuts={shortcuts} onAction={onAction} />
          <Answer side="b" text={b.text} leaning={swipe.side === 'b'} shortcuts={shortcuts} onAction={onAction} />
        </div>
      </div>
      <div className={classes.verdicts} role="group" aria-label="Other answers">
        {(['tie', 'both_bad', 'cant_tell'] as const).map((action) => (
          <Choice key={action} action={action} shortcuts={shortcuts} onAction={onAction} />
        ))}
        <span className={classes.gap} />
        {canUndo ? <Choice action="undo" quiet shortcuts={shortcuts} onAction={onAction} /> : null}
        <Choice action="skip" quiet shortcuts={shortcuts} onAction={onAction} />
      </div>
    </main>
  );
}

function PictureFrame({ picture, category }: { picture: Picture; category: string | null }) {
  if (picture.state === 'none') return null;
  return (
    <figure className={classes.picture}>
      {picture.state === 'shown' ? (
        <img
          src={picture.src}
          alt={category === null ? 'What the answers are about' : `Picture: ${category}`}
          draggable={false}
        />
      ) : null}
      {picture.state === 'loading' ? <Loader size="sm" aria-label="Loading the picture" /> : null}
      {picture.state === 'failed' ? (
        <div className={classes.pictureFailed}>
          <p>The picture did not load.</p>
          <Button variant="default" size="sm" onClick={picture.retry}>
            Try again
          </Button>
        </div>
      ) : null}
    </figure>
  );
}

/** A prompt longer than this scrolls in a box of its own. */
const LONG_PROMPT_CHARS = 320;

function Prompt({ prompt }: { prompt: string }) {
  const { facts, text } = readPrompt(prompt);
  const long = prompt.length > LONG_PROMPT_CHARS;
  return (
    <section
      className={classes.prompt}
      aria-label="What was asked"
      {...(long ? { tabIndex: 0, 'data-long': true } : {})}
    >
      {facts.length > 0 ? (
        <dl className={classes.facts}>
          {facts.map(({ label, value }) => (
            <div key={label}>
              <dt>{label}</dt>
              <dd>{value}</dd>
            </div>
          ))}
        </dl>
      ) : null}
      {text === '' ? null : <p className={classes.asking}>{text}</p>}
    </section>
  );
}

interface AnswerProps {
  readonly side: Side;
  readonly text: string;
  readonly leaning: boolean;
  readonly shortcuts: boolean;
  readonly onAction: (action: Action) => void;
}

function Answer({ side, text, leaning, shortcuts, onAction }: AnswerProps) {
  return (
    <UnstyledButton
      className={classes.answer}
      data-side={side}
      data-leaning={leaning || undefined}
      onClick={() => onAction(side)}
    >
      <span className={classes.answerHead}>
        <span className={classes.letter}>{side.toUpperCase()}</span>
        <VisuallyHidden>: </VisuallyHidden>
        <Hint action={side} shortcuts={shortcuts} />
        <span className={classes.swipeHint} aria-hidden="true">
          {side === 'a' ? '← swipe' : 'swipe →'}
        </span>
      </span>
      <span className={classes.answerText}>{text}</span>
    </UnstyledButton>
  );
}

interface ChoiceProps {
  readonly action: Action;
  readonly quiet?: boolean;
  readonly shortcuts: boolean;
  readonly onAction: (action: Action) => void;
}

function Choice({ action, quiet = false, shortcuts, onAction }: ChoiceProps) {
  return (
    <Button
      className={classes.choice}
      variant={quiet ? 'subtle' : 'default'}
      size="md"
      data-action={action}
      rightSection={<Hint action={action} shortcuts={shortcuts} />}
      onClick={() => onAction(action)}
    >
      {WORDS[action].label}
    </Button>
  );
}

/** The key that does the same. Shown only where there is likely a keyboard. */
function Hint({ action, shortcuts }: { action: Action; shortcuts: boolean }) {
  return shortcuts ? (
    <Kbd className={classes.key} aria-hidden="true">
      {WORDS[action].keys[0]}
    </Kbd>
  ) : null;
}
