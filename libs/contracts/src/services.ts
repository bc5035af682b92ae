/** The seven services, in the order in which a single process starts them. */
export const SERVICES = ['gateway', 'ingest', 'responses', 'rewards', 'datasets', 'trainer', 'scheduler'] as const;
export type ServiceName = (typeof SERVICES)[number];
