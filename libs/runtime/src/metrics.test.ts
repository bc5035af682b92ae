import { expect, it } from 'vitest';
import { createMetrics } from './metrics.ts';

it('writes prefixed, labelled series and gives the same metric for the same name', async () => {
  const metrics = createMetrics({ service: 'rewards' });
  metrics.counter('rewards_total', 'Rewards taken', ['kind']).inc({ kind: 'stars' });
  metrics.counter('rewards_total', 'Rewards taken', ['kind']).inc({ kind: 'stars' }, 2);
  metrics.gauge('queue_depth', 'Waiting', [], (gauge) => gauge.set(7));
  metrics.histogram('judge_seconds', 'Judging').observe(0.02);
  const text = await metrics.text();
  expect(text).toMatch(/tuneloop_rewards_total\{.*kind="stars".*\} 3/);
  expect(text).toMatch(/tuneloop_queue_depth\{service="rewards"\} 7/);
  expect(text).toContain('tuneloop_judge_seconds_bucket{le="0.025",service="rewards"} 1');
  expect(text).not.toContain('process_cpu');
  expect(metrics.contentType).toContain('text/plain');
});

it('keeps the registries of two services in one process apart', async () => {
  const [a, b] = [createMetrics({ service: 'a' }), createMetrics({ service: 'b' })];
  a.counter('x_total', 'x').inc();
  b.counter('x_total', 'x').inc(5);
  expect(await a.text()).toContain('tuneloop_x_total{service="a"} 1');
  expect(await b.text()).toContain('tuneloop_x_total{service="b"} 5');
});
