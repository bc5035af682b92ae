import { createLog } from '@tuneloop/runtime/log';
import { startService } from '@tuneloop/runtime/service';
import { startTestService, type TestSystem } from '@tuneloop/testkit/service';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { gatewayService } from '../src/service.ts';

let system: TestSystem;
beforeAll(async () => {
  system = await startTestService(gatewayService);
});
afterAll(() => system.stop());

it('starts with nothing to warn of', async () => {
  const lines: string[] = [];
  const log = createLog({ level: 'info', destination: { write: (line) => void lines.push(line) } });

  const gateway = await startService(gatewayService, { env: { ...system.env, PORT: '0' }, log });
  await gateway.stop();

  expect(lines.some((line) => line.includes('"msg":"ready"'))).toBe(true);
  expect(lines.filter((line) => !line.includes('"level":"info"'))).toEqual([]);
});
