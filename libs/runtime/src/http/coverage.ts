import type { RouteContract } from '@tuneloop/contracts/route';

export interface CoverageReport {
  readonly mounted: readonly string[];
  readonly exercised: readonly string[];
  /** Mounted and never answered with a success. */
  readonly unexercised: readonly string[];
}

/** Which contracts an app serves and which of them a caller has had a success from, by operation id. */
export class RouteCoverage {
  readonly #contracts = new Map<string, RouteContract>();
  readonly #exercised = new Set<string>();
  readonly #onExercised: ((operationId: string) => void) | undefined;

  constructor(onExercised?: (operationId: string) => void) {
    this.#onExercised = onExercised;
  }

  /** @throws Error when two contracts share an operation id. */
  mount(contract: RouteContract): void {
    if (this.#contracts.has(contract.operationId)) throw new Error(`${contract.operationId} is mounted twice`);
    this.#contracts.set(contract.operationId, contract);
  }

  exercise(operationId: string): void {
    if (this.#exercised.has(operationId)) return;
    this.#exercised.add(operationId);
    this.#onExercised?.(operationId);
  }

  contracts(): RouteContract[] {
    return [...this.#contracts.values()];
  }

  report(): CoverageReport {
    const mounted = [...this.#contracts.keys()].toSorted();
    return {
      mounted,
      exercised: [...this.#exercised].toSorted(),
      unexercised: mounted.filter((id) => !this.#exercised.has(id)),
    };
  }
}
