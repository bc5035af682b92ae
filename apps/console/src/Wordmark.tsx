import classes from './Wordmark.module.css';

export function Wordmark() {
  return (
    <span className={classes.wordmark}>
      <svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true">
        <rect width="32" height="32" rx="8" fill="currentColor" />
        <g fill="none" stroke="var(--mantine-color-body)" strokeWidth="3" strokeLinecap="round" strokeLinejoin="round">
          <path d="M23 12.5A8 8 0 1 0 24 16" />
          <path d="M24.5 7v6h-6" />
        </g>
      </svg>
      <span className={classes.name}>Tuneloop</span>
    </span>
  );
}
