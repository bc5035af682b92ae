import { SERVICES, type ServiceName } from '@tuneloop/contracts/services';
import { datasetsService } from '@tuneloop/datasets/service';
import { gatewayService } from '@tuneloop/gateway/service';
import { ingestService } from '@tuneloop/ingest/service';
import { responsesService } from '@tuneloop/responses/service';
import { rewardsService } from '@tuneloop/rewards/service';
import type { MigrationSet } from '@tuneloop/runtime/migrate';
import type { ServiceDefinition } from '@tuneloop/runtime/service';
import { schedulerService } from '@tuneloop/scheduler/service';
import { trainerService } from '@tuneloop/trainer/service';

/** Every service, by name. */
export const DEFINITIONS: Readonly<Record<ServiceName, ServiceDefinition>> = {
  gateway: gatewayService,
  ingest: ingestService,
  responses: responsesService,
  rewards: rewardsService,
  datasets: datasetsService,
  trainer: trainerService,
  scheduler: schedulerService,
};

/** The migrations of all services, in the order in which they run. */
export const MIGRATION_SETS: readonly MigrationSet[] = SERVICES.map((service) => ({
  service,
  directory: DEFINITIONS[service].migrations,
}));
