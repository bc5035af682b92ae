import type { RunChange, RunRow } from '../store/retraining.ts';

/**
 * A retraining run, one turn of the loop as the scheduler sees it:
 *
 *   pending/dataset -> running/training -> running/evaluation -> completed
 *         |                  |                    |
 *         |-- insufficient --|--> completed (no action)
 *         `-- failed, cancelled, past its deadline in any stage --> failed, with the cause
 *
 * Events may come twice or out of order; a step never goes back, and a run that is over stays as it ended.
 */
export type RunEvent =
  | { readonly type: 'dataset_ready'; readonly examples: number; readonly versionId: string }
  | { readonly type: 'dataset_insufficient'; readonly examples: number; readonly reason: string }
  | { readonly type: 'training_started'; readonly jobId: string }
  | { readonly type: 'training_completed'; readonly jobId: string; readonly checkpointId: string }
  | {
      readonly type: 'decided';
      readonly decision: 'promoted' | 'kept';
      readonly reason: string;
      readonly checkpointId: string;
    }
  | { readonly type: 'failed'; readonly reason: string }
  | { readonly type: 'deadline_passed' };

export interface Deadlines {
  readonly datasetMs: number;
  readonly trainingMs: number;
  readonly evaluationMs: number;
}

const ORDER: readonly RunRow['stage'][] = ['dataset', 'training', 'evaluation', 'done'];

function atLeast(run: Pick<RunRow, 'stage'>, stage: RunRow['stage']): boolean {
  return ORDER.indexOf(run.stage) >= ORDER.indexOf(stage);
}

const WAITED_FOR: Readonly<Record<RunRow['stage'], string>> = {
  dataset: 'the dataset to be frozen',
  training: 'the training job to finish',
  evaluation: 'the evaluation and the gate to decide',
  done: 'nothing',
};

/** What an event changes in an open run; null when it tells nothing new. */
export function advanceRun(
  run: Pick<RunRow, 'stage' | 'status' | 'started_at'>,
  event: RunEvent,
  now: Date,
  deadlines: Deadlines,
): RunChange | null {
  if (run.status === 'completed' || run.status === 'failed') return null;
  const due = (ms: number): Date => new Date(now.getTime() + ms);
  const end = { stage: 'done', completed_at: now } as const;
  switch (event.type) {
    case 'dataset_ready':
      if (atLeast(run, 'training')) return { dataset_size: event.examples, dataset_version_id: event.versionId };
      return {
        stage: 'training',
        status: 'running',
        started_at: run.started_at ?? now,
        deadline_at: due(deadlines.trainingMs),
        dataset_size: event.examples,
        dataset_version_id: event.versionId,
        fine_tune_flag: true,
      };
    case 'dataset_insufficient':
      return {
        ...end,
        status: 'completed',
        outcome: 'no_action',
        dataset_size: event.examples,
        error_message: event.reason,
      };
    case 'training_started':
      if (atLeast(run, 'evaluation')) return null;
      return {
        stage: 'training',
        status: 'running',
        started_at: run.started_at ?? now,
        deadline_at: due(deadlines.trainingMs),
        job_id: event.jobId,
        fine_tune_flag: true,
      };
    case 'training_completed':
      return {
        stage: 'evaluation',
        status: 'running',
        started_at: run.started_at ?? now,
        deadline_at: due(deadlines.evaluationMs),
        job_id: event.jobId,
        checkpoint_id: event.checkpointId,
        fine_tune_flag: true,
      };
    case 'decided':
      return {
        ...end,
        status: 'completed',
        outcome: event.decision,
        checkpoint_id: event.checkpointId,
        metrics: { decision: event.decision, reason: event.reason },
      };
    case 'failed':
      return { ...end, status: 'failed', error_message: event.reason };
    case 'deadline_passed':
      return {
        ...end,
        status: 'failed',
        error_message: `The deadline passed while waiting for ${WAITED_FOR[run.stage]}.`,
      };
  }
}
