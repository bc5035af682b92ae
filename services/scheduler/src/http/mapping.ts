import type { RetrainingRun } from '@tuneloop/contracts/scheduler/http';
import type { RequestRow, RunRow } from '../store/retraining.ts';
import type { ScheduleRow } from '../store/schedule.ts';

export function requestBody(row: RequestRow) {
  const { spec: _spec, ...body } = row;
  return body;
}

export function runBody(row: RunRow) {
  return { ...row, metrics: row.metrics as RetrainingRun['metrics'] };
}

export function scheduleBody(row: ScheduleRow) {
  const { project_id: _project, ...body } = row;
  return body;
}
