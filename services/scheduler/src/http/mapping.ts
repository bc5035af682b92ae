import type { RequestRow } from '../store/retraining.ts';
import type { ScheduleRow } from '../store/schedule.ts';

export function requestBody(row: RequestRow) {
  const { spec: _spec, ...body } = row;
  return body;
}

export function scheduleBody(row: ScheduleRow) {
  const { project_id: _project, ...body } = row;
  return body;
}
