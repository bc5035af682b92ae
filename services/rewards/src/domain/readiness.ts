export interface Readiness {
  readonly status: 'ready' | 'partial' | 'insufficient_data';
  readonly recommendations: string[];
}

const READY_RESPONSES = 100;
const READY_REWARDS = 50;
const PARTIAL_RESPONSES = 50;

/** Whether there is enough to train on: ready above 100 responses and 50 rewards, partial above 50 responses. */
export function readinessOf(responses: number, rewards: number): Readiness {
  const recommendations: string[] = [];
  if (responses <= READY_RESPONSES) {
    recommendations.push(`Collect more responses: ${responses} of more than ${READY_RESPONSES}.`);
  }
  if (rewards <= READY_REWARDS) recommendations.push(`Collect more rewards: ${rewards} of more than ${READY_REWARDS}.`);
  if (responses > READY_RESPONSES && rewards > READY_REWARDS) {
    return { status: 'ready', recommendations: ['There is enough to start a training.'] };
  }
  return { status: responses > PARTIAL_RESPONSES ? 'partial' : 'insufficient_data', recommendations };
}
