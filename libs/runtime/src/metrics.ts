import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';

/** Seconds; from a cached read to a slow generation. */
const DURATION_BUCKETS = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const NAME_PREFIX = 'tuneloop_';

export interface MetricsOptions {
  readonly service: string;
  /** Heap, event loop and CPU of the process: once per process, so off in tests and in all but one service of a shared process. */
  readonly processMetrics?: boolean;
}

/**
 * One service's Prometheus registry. Names get the `tuneloop_` prefix and every series a `service` label.
 * Asking twice for the same name gives the same metric, so two instances of a class may share one.
 */
export class Metrics {
  readonly registry: Registry;

  constructor(options: MetricsOptions) {
    this.registry = new Registry();
    this.registry.setDefaultLabels({ service: options.service });
    if (options.processMetrics) collectDefaultMetrics({ register: this.registry });
  }

  counter<L extends string = never>(name: string, help: string, labels: readonly L[] = []): Counter<L> {
    const existing = this.registry.getSingleMetric(NAME_PREFIX + name);
    if (existing instanceof Counter) return existing;
    return new Counter({ name: NAME_PREFIX + name, help, labelNames: [...labels], registers: [this.registry] });
  }

  gauge<L extends string = never>(
    name: string,
    help: string,
    labels: readonly L[] = [],
    collect?: (gauge: Gauge<L>) => void | Promise<void>,
  ): Gauge<L> {
    const existing = this.registry.getSingleMetric(NAME_PREFIX + name);
    if (existing instanceof Gauge) return existing;
    return new Gauge<L>({
      name: NAME_PREFIX + name,
      help,
      labelNames: [...labels],
      registers: [this.registry],
      ...(collect
        ? {
            collect: function (this: Gauge<L>) {
              return collect(this);
            },
          }
        : {}),
    });
  }

  /** Durations in seconds unless `buckets` says otherwise. */
  histogram<L extends string = never>(
    name: string,
    help: string,
    labels: readonly L[] = [],
    buckets: readonly number[] = DURATION_BUCKETS,
  ): Histogram<L> {
    const existing = this.registry.getSingleMetric(NAME_PREFIX + name);
    if (existing instanceof Histogram) return existing;
    return new Histogram({
      name: NAME_PREFIX + name,
      help,
      labelNames: [...labels],
      buckets: [...buckets],
      registers: [this.registry],
    });
  }

  /** The exposition text that `/metrics` answers. */
  async text(): Promise<string> {
    return this.registry.metrics();
  }

  get contentType(): string {
    return this.registry.contentType;
  }
}

export function createMetrics(options: MetricsOptions): Metrics {
  return new Metrics(options);
}
